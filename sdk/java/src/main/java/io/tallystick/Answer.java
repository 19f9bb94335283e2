package io.tallystick;

import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Optional;
import java.util.Set;

/** A whole answer, whatever its status. {@code retryAfter} is null where the server says nothing of it. */
record Answer(int status, byte[] body, Duration retryAfter) {
    static final Set<Integer> RETRIED = Set.of(408, 425, 429, 500, 502, 503, 504);
    private static final Duration RETRY_AFTER_MAX = Duration.ofHours(1);

    /** When to come again: seconds, or a date. */
    static Duration retryAfter(Optional<String> header, Instant now) {
        String text = header.orElse("").strip();
        Duration found;
        try {
            found = text.matches("[0-9]{1,8}")
                ? Duration.ofSeconds(Long.parseLong(text))
                : Duration.between(now, ZonedDateTime.parse(text, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant());
        } catch (DateTimeException error) {
            return null;
        }
        return found.isNegative() ? Duration.ZERO : found.compareTo(RETRY_AFTER_MAX) > 0 ? RETRY_AFTER_MAX : found;
    }

    /** The document. Throws the refusal where it is one, and UnreachableException for an answer that is no JSON. */
    Object document() {
        if (status >= 400) {
            throw ProblemException.of(this);
        }
        if (status >= 300) {
            throw new UnreachableException("HTTP " + status + ": the server's address has changed, or a proxy wants something.");
        }
        if (body.length == 0) {
            return null;
        }
        try {
            return Json.read(body);
        } catch (IllegalArgumentException error) {
            throw new UnreachableException("The answer (HTTP " + status + ") is no JSON: is there a proxy?", error);
        }
    }
}
