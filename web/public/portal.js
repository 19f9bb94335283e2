/**
 * `<tallystick-portal token="…">`: a customer's own pages within yours.
 *
 *   <script src="https://your-tallystick/portal.js" defer></script>
 *   <tallystick-portal token="…" section="invoices" theme="dark" zone="Europe/Berlin"></tallystick-portal>
 *
 * Colours and the font come from CSS variables of the element: `--tallystick-accent`, `--tallystick-ground`, … It grows with
 * its content. Set `token` anew when the event `tallystick-expired` comes.
 */
(() => {
  const origin = new URL(document.currentScript.src).origin;
  const VARIABLES = [
    "ground", "panel", "raised", "ink", "muted", "line", "line-strong", "accent", "accent-ink", "accent-soft", "danger", "danger-soft", "warn", "ok",
    ..."0123456789".split("").map((digit) => `c${digit}`), "c-rest", "font",
  ];

  class Portal extends HTMLElement {
    static observedAttributes = ["token", "section", "theme", "zone"];

    #frame = null;
    #heard = (event) => {
      const { data } = event;
      if (event.origin !== origin || event.source !== this.#frame?.contentWindow || data?.source !== "tallystick") return;
      if (data.kind === "height" && Number.isFinite(data.height)) this.#frame.style.height = `${Math.max(120, data.height)}px`;
      if (data.kind === "expired") this.dispatchEvent(new CustomEvent("tallystick-expired", { bubbles: true }));
    };

    connectedCallback() {
      addEventListener("message", this.#heard);
      this.#draw();
    }

    disconnectedCallback() {
      removeEventListener("message", this.#heard);
      this.#frame?.remove();
      this.#frame = null;
    }

    attributeChangedCallback(_name, before, after) {
      if (this.isConnected && before !== after) this.#draw();
    }

    #draw() {
      const token = this.getAttribute("token");
      this.#frame?.remove();
      this.#frame = null;
      if (!token) return;
      const style = getComputedStyle(this);
      const given = new URLSearchParams({ token });
      for (const name of ["theme", "zone"]) if (this.hasAttribute(name)) given.set(name, this.getAttribute(name));
      for (const name of VARIABLES) {
        const value = style.getPropertyValue(`--tallystick-${name}`).trim();
        if (value !== "") given.set(name, value);
      }
      const section = this.getAttribute("section");
      const frame = document.createElement("iframe");
      frame.title = this.getAttribute("title") || "Your usage";
      frame.src = `${origin}/portal${section ? `/${encodeURIComponent(section)}` : ""}?embed=1#${given}`;
      frame.style.cssText = "border:0;width:100%;height:640px;display:block;color-scheme:normal";
      this.#frame = frame;
      this.append(frame);
    }
  }

  if (!customElements.get("tallystick-portal")) customElements.define("tallystick-portal", Portal);
})();
