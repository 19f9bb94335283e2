import { useState } from "preact/hooks";
import { Problem } from "tallystick";
import { Field } from "../components/Form";

export function Enter({ failure, enter }: { failure: Error | null; enter: (token: string) => Promise<void> }) {
  const [token, setToken] = useState("");
  const said = failure === null ? undefined : failure instanceof Problem && failure.status === 401 ? "This token is not known, or no longer good." : failure.message;
  return (
    <main id="main" class="sign-in">
      <form onSubmit={(event) => {
        event.preventDefault();
        void enter(token.trim());
      }}>
        <h1>Your usage</h1>
        <p>Open this page from your account, or enter the token you were given.</p>
        <Field label="Token" hint="It stays in this tab, and is gone when you close it." fault={said}>
          <input type="password" required autocomplete="off" spellcheck={false} value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        </Field>
        <button type="submit" class="primary" disabled={token.trim() === ""}>Open</button>
      </form>
    </main>
  );
}
