// browser.mjs: how Chromium is started for the tests of the page. Run by itself it starts one that
// several scripts use in turn (LOQUAT_BROWSER), and says where it is reached.
import { fileURLToPath } from "node:url";
import { require } from "./lib.mjs";

const { chromium } = require("playwright-core");
const FLAGS =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " +
  "--disable-component-update --disable-sync";
/**
 * What the address bar drops down is two more pages of each window, though nobody sees it: half of
 * all work. Of several such switches the last one counts, so those of Playwright that matter here
 * are among them.
 */
const WITHOUT =
  "WebUIOmniboxPopup,WebUIOmniboxAimPopup,AvoidUnnecessaryBeforeUnloadCheckSync," +
  "DestroyProfileOnBrowserClose,HttpsUpgrades,MediaRouter,PaintHolding,RenderDocument,Translate";
const options = {
  executablePath: process.env.LOQUAT_CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS.split(" "), `--disable-features=${WITHOUT}`],
};

export function start() {
  const there = process.env.LOQUAT_BROWSER;
  return there ? chromium.connect(there) : chromium.launch(options);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await chromium.launchServer(options);
  console.log(server.wsEndpoint());
}
