/** A field to find rows of a list by text; what was asked for stands in the address, as `q`. */

import { useEffect, useState } from "preact/hooks";
import { useQuery } from "../router";

export function Find({ what, placeholder }: { what: string; placeholder: string }) {
  const [query, setQuery] = useQuery();
  const asked = query.get("q") ?? "";
  const [written, setWritten] = useState(asked);
  useEffect(() => setWritten(asked), [asked]);
  return (
    <form class="look-up" role="search" onSubmit={(event) => {
      event.preventDefault();
      setQuery({ q: written.trim() });
    }}>
      <input type="search" aria-label={`Find ${what}`} placeholder={placeholder} value={written} spellcheck={false} onInput={(event) => setWritten(event.currentTarget.value)} />
      <button type="submit">Find</button>
    </form>
  );
}
