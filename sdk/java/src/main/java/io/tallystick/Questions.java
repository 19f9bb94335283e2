package io.tallystick;

import java.math.BigDecimal;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Asks, and asks again where that can help. */
final class Questions {
    private final Transport transport;
    private final Options options;
    private final CountDownLatch closed = new CountDownLatch(1);

    Questions(Transport transport, Options options) {
        this.transport = transport;
        this.options = options;
    }

    /** A segment of a path, as text of any kind. */
    static String segment(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    /** A query with its question mark; members that are null are left out. */
    static String query(Map<String, ?> parameters) {
        String query = parameters.entrySet().stream().filter(each -> each.getValue() != null)
            .map(each -> segment(each.getKey()) + "=" + segment(each.getValue().toString())).collect(Collectors.joining("&"));
        return query.isEmpty() ? "" : "?" + query;
    }

    static String amount(BigDecimal amount) {
        return amount.toPlainString();
    }

    /**
     * The answer's document. Every POST carries one Idempotency-Key through all attempts; where nothing is created the
     * server does not look at it.
     */
    Object request(String method, String path, Object document) {
        byte[] body = null;
        Map<String, String> headers = new HashMap<>();
        if (document != null) {
            try {
                body = Json.write(document).getBytes(StandardCharsets.UTF_8);
            } catch (IllegalArgumentException error) {
                throw new TallystickException(method + " " + path + ": " + error.getMessage(), error);
            }
            headers.put("content-type", "application/json");
        }
        if (method.equals("POST")) {
            headers.put("idempotency-key", UUID.randomUUID().toString());
        }
        Delays delays = new Delays(options.retryMin, options.retryMax);
        for (int attempt = 1; ; attempt++) {
            boolean last = attempt >= options.questionAttempts;
            long delay;
            try {
                Answer answer = transport.request(method, path, body, headers);
                if (last || !Answer.RETRIED.contains(answer.status())) {
                    return answer.document();
                }
                delay = delays.next(answer.retryAfter());
            } catch (UnreachableException error) {
                if (last || Thread.currentThread().isInterrupted()) {
                    throw error;
                }
                delay = delays.next(null);
            }
            try {
                if (closed.await(delay, TimeUnit.NANOSECONDS)) {
                    throw new UnreachableException(method + " " + path + ": the client was closed.");
                }
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new UnreachableException(method + " " + path + ": the thread was interrupted.", error);
            }
        }
    }

    void close() {
        closed.countDown();
    }
}
