/** Where we are: the path and the query of the address bar, and nothing beside them. */

import { useEffect, useState } from "preact/hooks";
import { PAGES, type Page } from "./routes";

const CHANGED = "tallystick:went";

export interface Place {
  path: string;
  query: URLSearchParams;
}

export interface Match {
  page: Page;
  parameters: Record<string, string>;
}

/** Go to a path of ours. `replace`: without a new entry in the history, for what is being typed. */
export function go(target: string, options: { replace?: boolean } = {}): void {
  if (options.replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  dispatchEvent(new Event(CHANGED));
}

export function usePlace(): Place {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const changed = (): void => setPlace(here());
    addEventListener(CHANGED, changed);
    addEventListener("popstate", changed);
    return () => {
      removeEventListener(CHANGED, changed);
      removeEventListener("popstate", changed);
    };
  }, []);
  return place;
}

/** The query as a page's state: read it, and write members of it (null or "" takes one away). */
export function useQuery(): [URLSearchParams, (members: Record<string, string | null>, options?: { replace?: boolean }) => void] {
  const { query } = usePlace();
  return [query, change];
}

function change(members: Record<string, string | null>, options: { replace?: boolean } = {}): void {
  // Read anew: several changes may come from one event.
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(members)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  go(withQuery(location.pathname, query), options);
}

export function withQuery(path: string, query: URLSearchParams | Record<string, string | null | undefined>): string {
  const made = query instanceof URLSearchParams ? query : new URLSearchParams();
  if (!(query instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(query)) if (value) made.set(name, value);
  }
  const text = made.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** The page of a path. A page with a fixed segment goes before one with a parameter in its place. */
export function match(path: string): Match | null {
  const segments = split(path);
  let found: Match | null = null;
  for (const page of PAGES) {
    const wanted = split(page.path);
    if (wanted.length !== segments.length) continue;
    const parameters: Record<string, string> = {};
    const fits = wanted.every((one, index) => {
      const given = segments[index] ?? "";
      if (!one.startsWith(":")) return one === given;
      parameters[one.slice(1)] = decoded(given);
      return true;
    });
    if (fits && (found === null || Object.keys(parameters).length === 0)) found = { page, parameters };
  }
  return found;
}

/** Follow links of ours without loading the page anew. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (link === null || link.origin !== location.origin || link.target !== "" || link.hasAttribute("download")) return;
  if (match(link.pathname) === null) return;
  if (link.hash !== "" && link.pathname === location.pathname && link.search === location.search) return; // within the page
  // The company's pages and a customer's are two applications with a session each.
  if (isPortal(link.pathname) !== isPortal(location.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search + link.hash);
  scrollTo(0, 0);
}

export function isPortal(path: string): boolean {
  return split(path)[0] === "portal";
}

function here(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

function split(path: string): string[] {
  return path.split("/").filter((segment) => segment !== "");
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
