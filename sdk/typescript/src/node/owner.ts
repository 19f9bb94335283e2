/**
 * Who has a directory of the spool: the process that listens on its socket. The system ends that with the process, however it
 * dies, which no file with a number in it can say.
 */

import { createHash } from "node:crypto";
import { closeSync, openSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";

const NAME = "owner";
const SOCKET_PATH_BYTES_MAX = 100; // the systems' bounds are 104 and 108

/** Run something with a path of the directory's socket that is short enough for the system, and good until `done`. */
function withSocketPath<T>(directory: string, use: (path: string, done: () => void) => Promise<T>): Promise<T> {
  const path = join(directory, NAME);
  if (process.platform === "win32") {
    return use(`\\\\.\\pipe\\tallystick-${createHash("sha256").update(path.slice(path.lastIndexOf("\\node-"))).digest("hex")}`, () => undefined);
  }
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return use(path, () => undefined);
  if (process.platform !== "linux") throw new Error(`The spool's path is too long: at most ${SOCKET_PATH_BYTES_MAX - 60} bytes.`);
  const fd = openSync(directory, "r");
  return use(`/proc/self/fd/${fd}/${NAME}`, () => closeSync(fd));
}

/** Own a new directory until the server answered is closed. */
export function own(directory: string): Promise<Server> {
  return withSocketPath(
    directory,
    (path, done) =>
      new Promise((resolve, reject) => {
        const server = createServer((socket) => socket.destroy());
        server.once("error", reject);
        server.once("close", done); // it removes the socket by this path
        // It keeps no process alive.
        server.listen(path, () => resolve(server.unref()));
      }),
  );
}

/** Whether the process that owns it is gone. */
export async function isLeft(directory: string): Promise<boolean> {
  try {
    return await withSocketPath(
      directory,
      (path, done) =>
        new Promise<boolean>((resolve) => {
          const socket = connect(path);
          socket.once("close", done);
          socket.once("connect", () => {
            socket.destroy();
            resolve(false);
          });
          socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED" || error.code === "ENOENT"));
        }),
    );
  } catch {
    return false;
  }
}

/** Remove what a dead owner has left of its socket. */
export function forget(directory: string): void {
  try {
    unlinkSync(join(directory, NAME));
  } catch {
    // There is none on this system.
  }
}
