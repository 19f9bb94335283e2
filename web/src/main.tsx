import { render } from "preact";
import { App } from "./app";
import { applyTheme } from "./preferences";
import "./styles/base.css";
import "./styles/components.css";
import "./styles/pages.css";
import "./styles/money.css";

applyTheme();
const root = document.getElementById("root");
if (root !== null) {
  root.textContent = "";
  render(<App />, root);
}
