/** Giving the person a file. */

export type FileType = "text/csv" | "application/vnd.apache.parquet" | "application/vnd.apache.arrow.stream";

const KEPT_MS = 60_000;

export function save(content: Blob, name: string): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  // Not at once: the browser still reads it.
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}
