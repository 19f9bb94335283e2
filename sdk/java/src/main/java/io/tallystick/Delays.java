package io.tallystick;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/** How long to wait before each further attempt: doubling, anywhere in the upper half, never before the server says so. */
final class Delays {
    private final long firstNanos;
    private final long largestNanos;
    private int failures;

    Delays(Duration first, Duration largest) {
        firstNanos = first.toNanos();
        largestNanos = largest.toNanos();
    }

    /** One more failure; nanoseconds. */
    long next(Duration retryAfter) {
        long span = (long) Math.min(largestNanos, firstNanos * Math.pow(2, Math.min(failures, 60)));
        failures++;
        long delay = span / 2 + ThreadLocalRandom.current().nextLong(span / 2 + 1);
        return retryAfter == null ? delay : Math.max(delay, retryAfter.toNanos());
    }

    /** It worked. */
    void reset() {
        failures = 0;
    }
}
