package io.tallystick;

import java.math.BigDecimal;
import java.util.Map;

/**
 * An amount that is held until it is settled, released, or its time is over. Closing releases what was not settled:
 *
 * <pre>{@code
 * try (Reservation held = client.reserve("acme", "tokens", 1000)) {
 *     held.settle(812);
 * }
 * }</pre>
 */
public final class Reservation implements AutoCloseable {
    private final Client client;
    private final String id;
    private final Map<String, Object> document;
    private volatile boolean done;

    Reservation(Client client, Map<String, Object> document) {
        this.client = client;
        this.document = document;
        id = Json.text(document, "id");
    }

    /** @return the server's name for it */
    public String id() {
        return id;
    }

    /** @return the whole answer */
    public Map<String, Object> document() {
        return document;
    }

    /**
     * What was really used; the server makes its event in the same step. May be repeated with the same amount.
     *
     * @param amount exact
     * @return the server's answer
     * @throws ProblemException {@code limit_exceeded}, {@code reservation_expired}, {@code already_settled}
     */
    public Map<String, Object> settle(BigDecimal amount) {
        return settle(amount, null);
    }

    /**
     * As {@link #settle(BigDecimal)}, in whole numbers.
     *
     * @param amount exact
     * @return the server's answer
     */
    public Map<String, Object> settle(long amount) {
        return settle(BigDecimal.valueOf(amount), null);
    }

    /**
     * What was really used; this event is recorded in the same step.
     *
     * @param amount exact
     * @param event  the event; null: the server makes one
     * @return the server's answer
     */
    public Map<String, Object> settle(BigDecimal amount, Event event) {
        Map<String, Object> answer = client.settle(id, amount, event);
        done = true;
        return answer;
    }

    /**
     * Give all of it back.
     *
     * @return the server's answer
     */
    public Map<String, Object> release() {
        Map<String, Object> answer = client.release(id);
        done = true;
        return answer;
    }

    /** Release it where it was neither settled nor released. Does not throw: its time ends it in any case. */
    @Override
    public void close() {
        if (!done) {
            try {
                release();
            } catch (TallystickException error) {
                System.getLogger("io.tallystick").log(System.Logger.Level.WARNING,
                    "Reservation {0} ends by its time: {1}", id, error.getMessage());
            }
        }
    }
}
