package io.tallystick;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/** The server refused, with an RFC 9457 document. {@link #code} is stable (docs/reference/errors.md). */
public final class ProblemException extends TallystickException {
    private static final long serialVersionUID = 1L;

    private final int status;
    private final String code;
    private final String detail;
    private final transient Map<String, Object> document;
    private final transient Duration retryAfter;

    private ProblemException(int status, String code, String detail, Map<String, Object> document, Duration retryAfter) {
        super(code + ": " + detail);
        this.status = status;
        this.code = code;
        this.detail = detail;
        this.document = document;
        this.retryAfter = retryAfter;
    }

    /** A refusal, whoever wrote it: a proxy in between may answer with a page. */
    static ProblemException of(Answer answer) {
        Map<String, Object> document = Map.of();
        try {
            if (Json.read(answer.body()) instanceof Map<?, ?> found) {
                document = Json.object(found);
            }
        } catch (IllegalArgumentException notJson) {
            // the status alone speaks
        }
        String code = document.get("code") instanceof String text ? text : "http_" + answer.status();
        Object words = document.get("detail") != null ? document.get("detail") : document.get("title");
        String detail = words instanceof String text ? text : "HTTP " + answer.status();
        return new ProblemException(answer.status(), code, detail, document, answer.retryAfter());
    }

    /** @return the HTTP status */
    public int status() {
        return status;
    }

    /** @return the stable name of the cause, {@code http_<status>} where a proxy answered */
    public String code() {
        return code;
    }

    /** @return the server's words */
    public String detail() {
        return detail;
    }

    /** @return the whole document, with {@code errors} that name each fault; empty after serialization */
    public Map<String, Object> document() {
        return document == null ? Map.of() : document;
    }

    /** @return when to come again, where the server says so */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }
}
