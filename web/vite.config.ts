import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
// The address of a running server, for `npm run dev`.
const server = process.env["TALLYSTICK_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  resolve: { alias: { tallystick: here("../sdk/typescript/src/index.ts") } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: here("../src/tallystick/web_dist"),
    emptyOutDir: true,
    target: "es2022",
    // The policy allows no script or style within the page, nor data: in their place.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: Object.fromEntries(["/v1", "/auth", "/health/", "/metrics", "/openapi.json", "/docs"].map((path) => [path, server])) },
});
