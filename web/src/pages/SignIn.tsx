import { useEffect, useState } from "preact/hooks";
import { Problem } from "tallystick";
import { asError } from "../ask";
import { Tally } from "../components/Frame";
import { Field } from "../components/Form";
import { go } from "../router";
import { features, signIn } from "../session";

export function SignIn() {
  const [secret, setSecret] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);

  const enter = async (key: string): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      await signIn(key);
      if (location.pathname === "/sign-in") go("/", { replace: true });
    } catch (failure) {
      setError(asError(failure));
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    // After a login the provider's answer comes in the fragment, which no server sees; nor shall the history.
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token === null) return;
    history.replaceState(null, "", location.pathname + location.search);
    void enter(token);
  }, []);

  return (
    <main id="main" class="sign-in">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void enter(secret.trim());
        }}
      >
        <h1><Tally />Tallystick</h1>
        <p>Every event counted once, for ever.</p>
        <Field
          label="API key"
          hint="It stays in this tab, and is gone when you close it."
          fault={error === null ? undefined : said(error)}
        >
          <input type="password" required autocomplete="off" spellcheck={false} value={secret} onInput={(event) => setSecret(event.currentTarget.value)} />
        </Field>
        <button type="submit" class="primary" disabled={busy || secret.trim() === ""}>{busy ? "Signing in…" : "Sign in"}</button>
        {features.has("login") && <a class="button" href="/auth/login" rel="external" target="_self">Log in with your company's account</a>}
        <p class="muted">The server printed its first key when it was started for the first time. <a href="/docs">The API</a></p>
      </form>
    </main>
  );
}

function said(error: Error): string {
  if (error instanceof Problem && error.status === 401) return "The server does not know this key.";
  return error instanceof Problem ? error.detail : error.message;
}
