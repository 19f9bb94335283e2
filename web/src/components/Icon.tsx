const PATHS = {
  menu: "M3 6h18M3 12h18M3 18h18",
  close: "M5 5l14 14M19 5 5 19",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M12 4v12M6 11l6 6 6-6M4 20h16",
  plus: "M12 5v14M5 12h14",
  check: "M4 12l5 6L20 6",
  right: "M9 5l7 7-7 7",
  play: "M7 4l13 8-13 8z",
  pause: "M7 4v16M17 4v16",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d={PATHS[name]} /></svg>;
}
