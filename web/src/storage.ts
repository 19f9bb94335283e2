/** What a browser keeps for a page. Within another site's frame it may refuse to: then it lasts as long as the page. */

const kept = new Map<string, string>();

function asked(store: "local" | "session"): Storage | null {
  try {
    return store === "local" ? localStorage : sessionStorage;
  } catch {
    return null;
  }
}

export function stored(store: "local" | "session", name: string): string | null {
  return asked(store)?.getItem(name) ?? kept.get(name) ?? null;
}

/** Null takes it away. */
export function store(where: "local" | "session", name: string, value: string | null): void {
  const found = asked(where);
  if (value === null) {
    kept.delete(name);
    found?.removeItem(name);
    return;
  }
  try {
    if (found === null) kept.set(name, value);
    else found.setItem(name, value);
  } catch {
    kept.set(name, value); // no room left
  }
}
