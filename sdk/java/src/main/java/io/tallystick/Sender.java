package io.tallystick;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.zip.Deflater;
import java.util.zip.GZIPOutputStream;

/** The thread that takes events from the spool to the server, in order, until each was answered for. */
final class Sender {
    private static final System.Logger LOG = System.getLogger("io.tallystick");
    private static final int COMPRESSED_BYTES_MIN = 2_048;
    private static final int WORDS_MAX = 300;

    private final Spool spool;
    private final Transport transport;
    private final Options options;
    private final Delays delays;
    private final ReentrantLock lock = new ReentrantLock();
    /** For the threads here: there is something to do. */
    private final Condition work = lock.newCondition();
    /** For the application's threads: something was answered for. */
    private final Condition progress = lock.newCondition();
    private final Thread sending;
    private final Thread syncing;
    private volatile boolean started;
    private int hurried;
    private volatile boolean idle;
    private volatile boolean stopped;
    private volatile CompletableFuture<HttpResponse<byte[]>> underWay;

    final LongAdder tracked = new LongAdder();
    final AtomicLong accepted = new AtomicLong();
    final AtomicLong rejected = new AtomicLong();
    final AtomicLong dropped = new AtomicLong();
    final AtomicLong failures = new AtomicLong();
    volatile String lastFailure = "";

    Sender(Spool spool, Transport transport, Options options) {
        this.spool = spool;
        this.transport = transport;
        this.options = options;
        delays = new Delays(options.retryMin, options.retryMax);
        sending = new Thread(this::run, "tallystick-send");
        sending.setDaemon(true);
        syncing = new Thread(this::runSync, "tallystick-sync");
        syncing.setDaemon(true);
        if (spool.waiting() > 0) {
            start();
        }
    }

    /** The threads begin with the first event: who only asks has none. */
    private void start() {
        lock.lock();
        try {
            if (!started && !stopped) {
                started = true;
                sending.start();
                if (options.spool != null && !options.syncInterval.isZero()) {
                    syncing.start();
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** Keep one event; waits for room where that is wanted. */
    void put(byte[] line) {
        if (spool.append(line) == 0 && !waitForRoom(line)) {
            dropped.incrementAndGet();
            return;
        }
        tracked.increment();
        if (options.syncInterval.isZero()) {
            try {
                spool.sync();
            } catch (IOException error) {
                throw new UncheckedIOException("The event is kept, and may not be on the disk.", error);
            }
        }
        if (!started) {
            start();
        } else if (idle || full()) {
            wake();
        }
    }

    private boolean full() {
        return spool.waiting() >= options.batchEventsMax || spool.waitingBytes() >= options.batchBytesMax;
    }

    private void wake() {
        lock.lock();
        try {
            work.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Whether the event was taken in the end; false: it is to be dropped. */
    private boolean waitForRoom(byte[] line) {
        if (options.onFull == Options.OnFull.DROP) {
            return false;
        }
        long left = options.onFull == Options.OnFull.WAIT ? options.fullWaitMax.toNanos() : 0;
        lock.lock();
        hurried++;
        try {
            work.signalAll();
            while (left > 0 && !stopped) {
                left = progress.awaitNanos(left);
                if (spool.append(line) > 0) {
                    return true;
                }
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new SpoolFullException("Events wait for the server, and the thread was interrupted while it waited for room.");
        } finally {
            hurried--;
            lock.unlock();
        }
        throw new SpoolFullException("Events wait for the server (" + spool.waitingBytes() + " bytes; the bound is "
            + options.spoolBytesMax + "), and there is no room for another. " + lastFailure);
    }

    /** Send what waits now; whether all that was there is answered for in time. */
    boolean flush(Duration timeout) {
        long newest = spool.newest();
        long left = timeout.toNanos();
        lock.lock();
        hurried++;
        try {
            work.signalAll();
            while (spool.answered() < newest) {
                if (left <= 0 || stopped || Thread.currentThread() == sending) {
                    return false;
                }
                left = progress.awaitNanos(left);
            }
            return true;
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            return false;
        } finally {
            hurried--;
            lock.unlock();
        }
    }

    /** End the threads. What was not answered for stays in the spool. */
    void stop() {
        lock.lock();
        try {
            stopped = true;
            work.signalAll();
            progress.signalAll();
        } finally {
            lock.unlock();
        }
        CompletableFuture<HttpResponse<byte[]>> request = underWay;
        if (request != null) {
            request.cancel(true);
        }
        try {
            for (Thread thread : List.of(sending, syncing)) {
                if (thread != Thread.currentThread()) {
                    thread.join(2_000);
                }
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private void runSync() {
        while (!stopped) {
            pause(options.syncInterval.toNanos());
            try {
                spool.sync();
            } catch (IOException error) {
                LOG.log(System.Logger.Level.ERROR, "The spool cannot be synced.", error);
            }
        }
    }

    private void run() {
        while (!stopped) {
            try {
                awaitWork();
                sendAll();
            } catch (Throwable error) { // an Error too: events would wait for a thread that is no more
                if (!stopped) {
                    failed("Sending failed: " + error);
                    LOG.log(System.Logger.Level.ERROR, "Sending events failed; it is tried again.", error);
                    pause(delays.next(null));
                }
            }
        }
    }

    private void awaitWork() {
        lock.lock();
        try {
            // First `idle`, then the look: who appends after the look sees `idle`, and wakes this thread.
            idle = true;
            while (!stopped && spool.waiting() == 0) {
                work.await();
            }
            idle = false;
            long left = options.flushInterval.toNanos();
            while (!stopped && hurried == 0 && left > 0 && !full()) {
                left = work.awaitNanos(left);
            }
        } catch (InterruptedException error) {
            // Nobody here interrupts this thread; a listener's library may.
            Thread.interrupted();
        } finally {
            idle = false;
            lock.unlock();
        }
    }

    /** Not sooner than in so many nanoseconds, unless the client ends. */
    private void pause(long nanos) {
        long until = System.nanoTime() + nanos;
        lock.lock();
        try {
            long left = nanos;
            while (!stopped && left > 0) {
                work.awaitNanos(left);
                left = until - System.nanoTime();
            }
        } catch (InterruptedException error) {
            Thread.interrupted();
        } finally {
            lock.unlock();
        }
    }

    private void sendAll() throws IOException {
        while (!stopped) {
            Spool.Batch batch = spool.batch(options.batchEventsMax, options.batchBytesMax);
            if (batch.lines().isEmpty()) {
                return;
            }
            send(batch);
            lock.lock();
            try {
                progress.signalAll();
            } finally {
                lock.unlock();
            }
        }
    }

    /** Try until there is an answer for the batch, or for its first half, or the end. */
    private void send(Spool.Batch batch) throws IOException {
        int count = batch.lines().size();
        while (!stopped) {
            Duration retryAfter = null;
            Duration atLeast = null;
            try {
                Answer answer = post(batch.lines().subList(0, count));
                Map<String, Object> document = documentOf(answer);
                if (answer.status() < 300 && document.get("accepted") instanceof BigDecimal) {
                    settle(batch, count, rejectedIn(document, count));
                    delays.reset();
                    return;
                }
                if (answer.status() == 400 || answer.status() == 413 || answer.status() == 422) {
                    Map<Integer, Map<String, Object>> refused = rejectedIn(document, count);
                    if (refused.size() < count) {
                        if (count > 1) {
                            count = (count + 1) / 2; // something in it, or the size of it: find out which
                            continue;
                        }
                        ProblemException problem = ProblemException.of(answer);
                        refused = Map.of(0, Map.of("code", problem.code(), "detail", problem.detail()));
                    }
                    settle(batch, count, refused);
                    return;
                }
                retryAfter = answer.retryAfter();
                failed("HTTP " + answer.status() + ": " + words(answer));
                if (!Answer.RETRIED.contains(answer.status()) && answer.status() < 500) {
                    atLeast = options.retryMax.dividedBy(2); // a key, a scope, an address: only people mend that
                }
            } catch (UnreachableException error) {
                if (stopped) {
                    return;
                }
                failed(error.getMessage());
            }
            long delay = delays.next(retryAfter);
            pause(atLeast == null ? delay : Math.max(delay, atLeast.toNanos()));
        }
    }

    private Answer post(List<byte[]> lines) throws IOException {
        ByteArrayOutputStream plain = new ByteArrayOutputStream(lines.size() * 256);
        for (byte[] line : lines) {
            plain.write(line);
            plain.write('\n');
        }
        byte[] body = plain.toByteArray();
        Map<String, String> headers = new HashMap<>(Map.of("content-type", "application/x-ndjson"));
        if (options.compress && body.length >= COMPRESSED_BYTES_MIN) {
            ByteArrayOutputStream packed = new ByteArrayOutputStream(body.length / 4);
            try (GZIPOutputStream out = new Fast(packed)) {
                out.write(body);
            }
            body = packed.toByteArray();
            headers.put("content-encoding", "gzip");
        }
        CompletableFuture<HttpResponse<byte[]>> request = transport.start("POST", "/v1/events", body, headers);
        underWay = request;
        try {
            return transport.answer(request, "POST /v1/events");
        } finally {
            underWay = null;
        }
    }

    private static final class Fast extends GZIPOutputStream {
        Fast(ByteArrayOutputStream out) throws IOException {
            super(out, 8_192);
            def.setLevel(Deflater.BEST_SPEED);
        }
    }

    /** The answer's document; empty where it is none. */
    private static Map<String, Object> documentOf(Answer answer) {
        try {
            return Json.read(answer.body()) instanceof Map<?, ?> map ? Json.object(map) : Map.of();
        } catch (IllegalArgumentException error) {
            return Map.of();
        }
    }

    private static String words(Answer answer) {
        String text = new String(answer.body(), StandardCharsets.UTF_8);
        return text.length() > WORDS_MAX ? text.substring(0, WORDS_MAX) : text;
    }

    /** The results of the events that were not taken, by their place in the batch. */
    private static Map<Integer, Map<String, Object>> rejectedIn(Map<String, Object> document, int count) {
        Map<Integer, Map<String, Object>> found = new HashMap<>();
        for (Object each : Json.list(document, "results")) {
            if (each instanceof Map<?, ?> map && "rejected".equals(map.get("status"))
                && map.get("index") instanceof BigDecimal index && index.signum() >= 0
                && index.compareTo(BigDecimal.valueOf(count)) < 0) {
                found.put(index.intValue(), Json.object(map));
            }
        }
        return found;
    }

    /** Let go of the events, and tell what became of each. Told first, a death in between would tell twice. */
    private void settle(Spool.Batch batch, int count, Map<Integer, Map<String, Object>> refused) throws IOException {
        spool.acknowledge(batch, count);
        rejected.addAndGet(refused.size());
        accepted.addAndGet(count - refused.size());
        if (options.onResult != null) {
            for (int index = 0; index < count; index++) {
                tell(batch.lines().get(index), refused.get(index));
            }
        } else {
            refused.forEach((index, why) -> LOG.log(System.Logger.Level.ERROR, "Event {0} was rejected: {1}: {2}",
                why.get("id"), why.get("code"), why.get("detail")));
        }
    }

    private void tell(byte[] line, Map<String, Object> why) {
        try {
            Map<String, Object> event = Json.object(Json.read(line));
            options.onResult.accept(new EventResult(Json.text(event, "id"), Json.text(event, "source"), why == null,
                why == null ? null : Json.text(why, "code"), why == null ? null : Json.text(why, "detail"),
                new String(line, StandardCharsets.UTF_8)));
        } catch (RuntimeException error) {
            LOG.log(System.Logger.Level.ERROR, "onResult failed.", error);
        }
    }

    private void failed(String why) {
        failures.incrementAndGet();
        lastFailure = why;
        LOG.log(System.Logger.Level.WARNING, "Events wait in the spool. {0}", why);
    }
}
