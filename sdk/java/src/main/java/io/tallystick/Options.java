package io.tallystick;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import javax.net.ssl.SSLContext;

/** How a client behaves. Every bound has a number here. Made by {@link #builder()}. */
public final class Options {
    /** What {@code track} does when there is no room for another event. */
    public enum OnFull {
        /** Wait for room, at most {@link Builder#fullWaitMax}, then throw. */
        WAIT,
        /** Throw {@link SpoolFullException} at once. */
        REJECT,
        /** Count it in {@link Stats#dropped()}. */
        DROP
    }

    final String url;
    final String key;
    final String source;
    final Path spool;
    final long spoolBytesMax;
    final int segmentBytes;
    final Duration syncInterval;
    final int batchEventsMax;
    final int batchBytesMax;
    final Duration flushInterval;
    final OnFull onFull;
    final Duration fullWaitMax;
    final Consumer<EventResult> onResult;
    final Duration timeout;
    final Duration retryMin;
    final Duration retryMax;
    final int questionAttempts;
    final Duration closeWaitMax;
    final boolean compress;
    final boolean closeAtExit;
    final SSLContext sslContext;

    private Options(Builder builder) {
        url = builder.url;
        key = builder.key;
        source = builder.source;
        spool = builder.spool;
        spoolBytesMax = builder.spoolBytesMax;
        segmentBytes = builder.segmentBytes;
        syncInterval = builder.syncInterval;
        batchEventsMax = builder.batchEventsMax;
        batchBytesMax = builder.batchBytesMax;
        flushInterval = builder.flushInterval;
        onFull = builder.onFull;
        fullWaitMax = builder.fullWaitMax;
        onResult = builder.onResult;
        timeout = builder.timeout;
        retryMin = builder.retryMin;
        retryMax = builder.retryMax;
        questionAttempts = builder.questionAttempts;
        closeWaitMax = builder.closeWaitMax;
        compress = builder.compress;
        closeAtExit = builder.closeAtExit;
        sslContext = builder.sslContext;
    }

    /** @return settings with their defaults; the address and the key are the environment's TALLYSTICK_URL and TALLYSTICK_KEY */
    public static Builder builder() {
        return new Builder();
    }

    /** Makes {@link Options}. */
    public static final class Builder {
        private String url = System.getenv("TALLYSTICK_URL");
        private String key = System.getenv("TALLYSTICK_KEY");
        private String source = "/";
        private Path spool;
        private long spoolBytesMax = 256L * 1024 * 1024;
        private int segmentBytes = 4 * 1024 * 1024;
        private Duration syncInterval = Duration.ofMillis(100);
        private int batchEventsMax = 5_000;
        private int batchBytesMax = 1024 * 1024;
        private Duration flushInterval = Duration.ofMillis(500);
        private OnFull onFull = OnFull.WAIT;
        private Duration fullWaitMax = Duration.ofSeconds(30);
        private Consumer<EventResult> onResult;
        private Duration timeout = Duration.ofSeconds(30);
        private Duration retryMin = Duration.ofMillis(200);
        private Duration retryMax = Duration.ofSeconds(30);
        private int questionAttempts = 3;
        private Duration closeWaitMax = Duration.ofSeconds(5);
        private boolean compress = true;
        private boolean closeAtExit = true;
        private SSLContext sslContext;

        private Builder() {
        }

        /**
         * The server.
         *
         * @param value its address: https://host[:port][/prefix]
         * @return this
         */
        public Builder url(String value) {
            url = value;
            return this;
        }

        /**
         * The API key or portal token.
         *
         * @param value the key; null: none
         * @return this
         */
        public Builder key(String value) {
            key = value;
            return this;
        }

        /**
         * {@code source} of events that name none. Identity is (source, id).
         *
         * @param value the source; default "/"
         * @return this
         */
        public Builder source(String value) {
            source = value;
            return this;
        }

        /**
         * Where events wait. A directory belongs to one client at a time; default: in memory, where a killed process
         * loses them.
         *
         * @param directory on a local disk; made where it is not
         * @return this
         */
        public Builder spool(Path directory) {
            spool = directory;
            return this;
        }

        /**
         * How many bytes of events may wait. The disk holds at most one segment more.
         *
         * @param value bytes; default 256 MiB
         * @return this
         */
        public Builder spoolBytesMax(long value) {
            spoolBytesMax = value;
            return this;
        }

        /**
         * The size at which a new file is begun.
         *
         * @param value bytes; default 4 MiB
         * @return this
         */
        public Builder segmentBytes(int value) {
            segmentBytes = value;
            return this;
        }

        /**
         * An event not yet acknowledged is on the disk within this time: what a failing <em>machine</em> can lose. A killed
         * process loses nothing. Zero: before {@code track} returns.
         *
         * @param value default 100 ms
         * @return this
         */
        public Builder syncInterval(Duration value) {
            syncInterval = value;
            return this;
        }

        /**
         * The largest batch.
         *
         * @param events default 5,000
         * @param bytes  default 1 MiB
         * @return this
         */
        public Builder batch(int events, int bytes) {
            batchEventsMax = events;
            batchBytesMax = bytes;
            return this;
        }

        /**
         * An event is sent within this time, or sooner when a batch is full.
         *
         * @param value default 500 ms
         * @return this
         */
        public Builder flushInterval(Duration value) {
            flushInterval = value;
            return this;
        }

        /**
         * What {@code track} does when there is no room.
         *
         * @param value default {@link OnFull#WAIT}
         * @return this
         */
        public Builder onFull(OnFull value) {
            onFull = value;
            return this;
        }

        /**
         * How long {@link OnFull#WAIT} waits.
         *
         * @param value default 30 s
         * @return this
         */
        public Builder fullWaitMax(Duration value) {
            fullWaitMax = value;
            return this;
        }

        /**
         * Told what became of each event, in the sending thread: be quick. Without it, rejected events are logged.
         *
         * @param value the listener
         * @return this
         */
        public Builder onResult(Consumer<EventResult> value) {
            onResult = value;
            return this;
        }

        /**
         * How long one request may take, answer included.
         *
         * @param value default 30 s
         * @return this
         */
        public Builder timeout(Duration value) {
            timeout = value;
            return this;
        }

        /**
         * The delay before an attempt is repeated: from the first, doubling, to the largest, with jitter, and never less
         * than the server's {@code Retry-After}.
         *
         * @param first   default 200 ms
         * @param largest default 30 s
         * @return this
         */
        public Builder retry(Duration first, Duration largest) {
            retryMin = first;
            retryMax = largest;
            return this;
        }

        /**
         * How often a question is asked before it throws. Events are sent until they are answered for.
         *
         * @param value default 3
         * @return this
         */
        public Builder questionAttempts(int value) {
            questionAttempts = value;
            return this;
        }

        /**
         * How long {@code close}, and the end of the process, wait for the server.
         *
         * @param value default 5 s
         * @return this
         */
        public Builder closeWaitMax(Duration value) {
            closeWaitMax = value;
            return this;
        }

        /**
         * Whether batches go as gzip.
         *
         * @param value default true
         * @return this
         */
        public Builder compress(boolean value) {
            compress = value;
            return this;
        }

        /**
         * Whether the client closes when the virtual machine ends by itself.
         *
         * @param value default true
         * @return this
         */
        public Builder closeAtExit(boolean value) {
            closeAtExit = value;
            return this;
        }

        /**
         * Whom to trust in TLS.
         *
         * @param value default: the virtual machine's
         * @return this
         */
        public Builder sslContext(SSLContext value) {
            sslContext = value;
            return this;
        }

        /**
         * The settings.
         *
         * @return them
         * @throws TallystickException naming every value that is out of range
         */
        public Options build() {
            List<String> wrong = new ArrayList<>();
            if (url == null || url.isEmpty()) {
                wrong.add("url (give one, or set TALLYSTICK_URL)");
            }
            if (source == null || source.isEmpty()) {
                wrong.add("source (empty)");
            }
            positive(wrong, "spoolBytesMax", spoolBytesMax);
            positive(wrong, "segmentBytes", segmentBytes);
            positive(wrong, "batch events", batchEventsMax);
            positive(wrong, "batch bytes", batchBytesMax);
            positive(wrong, "questionAttempts", questionAttempts);
            positive(wrong, "flushInterval", flushInterval.toNanos());
            positive(wrong, "timeout", timeout.toNanos());
            positive(wrong, "retry's first delay", retryMin.toNanos());
            if (retryMax.compareTo(retryMin) < 0) {
                wrong.add("retry's largest delay (smaller than the first)");
            }
            if (syncInterval.isNegative() || fullWaitMax.isNegative() || closeWaitMax.isNegative()) {
                wrong.add("syncInterval, fullWaitMax or closeWaitMax (negative)");
            }
            if (!wrong.isEmpty()) {
                throw new TallystickException("Options out of range: " + String.join(", ", wrong) + ".");
            }
            return new Options(this);
        }

        private static void positive(List<String> wrong, String name, long value) {
            if (value <= 0) {
                wrong.add(name + " (not above 0)");
            }
        }
    }
}
