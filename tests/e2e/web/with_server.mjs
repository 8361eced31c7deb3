// with_server.mjs SCRIPT: runs a script of this folder against a server of its own, so that several
// can run at once: their users are not in each other's way. Ends as the script does.
import { spawn } from "node:child_process";
import path from "node:path";
import { root, Server } from "./lib.mjs";

const server = await Server.start();
const env = { ...process.env, LOQUAT_URL: server.url };
for (const user of ["alice", "bob", "carol", "mallory"])
  env[`LOQUAT_TOKEN_${user.toUpperCase()}`] = await server.token(user);
env.LOQUAT_TOKEN_ADMIN = await server.token("root", "1d", "admin");
const script = path.join(root, "tests/e2e/web", `${process.argv[2]}.mjs`);
const child = spawn(process.execPath, [script, ...process.argv.slice(3)], {
  env,
  stdio: "inherit",
});
process.on("SIGTERM", () => child.kill("SIGTERM"));
const status = await new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
await server.stop();
process.exit(status);
