import { defineConfig } from "vite";

/** The page's own origin serves it, under a policy without anything inline (gateway/http.c). */
export default defineConfig({
  build: {
    target: "es2022",
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true } },
  },
});
