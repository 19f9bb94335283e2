export { InvalidEvent, Spool, SpoolFull, type SpoolOptions, type SpoolStats } from "./spool.js";
export { countRequests, type Counting } from "./express.js";
