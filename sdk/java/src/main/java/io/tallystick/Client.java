package io.tallystick;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Send usage events and ask about usage. Safe for many threads; one for a process is enough.
 *
 * <pre>{@code
 * Client client = Client.open(Options.builder().spool(Path.of("/var/lib/app/usage")).build());
 * client.track("llm.completion", "acme", Map.of("tokens", 812, "model", "atlas"));
 * }</pre>
 */
public final class Client implements AutoCloseable {
    private final Options options;
    private final Transport transport;
    private final Questions questions;
    private final Spool spool;
    private final Sender sender;
    private final AtomicBoolean closed = new AtomicBoolean();
    private final Thread atExit;

    private Client(Options options) {
        this.options = options;
        transport = new Transport(options);
        questions = new Questions(transport, options);
        spool = options.spool == null ? new MemorySpool(options.spoolBytesMax)
            : new DiskSpool(options.spool, options.spoolBytesMax, options.segmentBytes);
        sender = new Sender(spool, transport, options);
        atExit = options.closeAtExit ? new Thread(() -> end(options.closeWaitMax), "tallystick-exit") : null;
        if (atExit != null) {
            Runtime.getRuntime().addShutdownHook(atExit);
        }
    }

    /**
     * A client. What an earlier process left in the spool's directory is sent from now on.
     *
     * @param options how it behaves
     * @return the client
     * @throws SpoolInUseException when another client has the directory
     * @throws TallystickException when the address is none, or the directory cannot be made or read
     */
    public static Client open(Options options) {
        return new Client(options);
    }

    /**
     * A client that keeps events in memory.
     *
     * @param url the server's address
     * @param key the API key
     * @return the client
     */
    public static Client open(String url, String key) {
        return open(Options.builder().url(url).key(key).build());
    }

    /**
     * Take one event, and answer at once. It is sent in the background, under one id in every attempt, and is safe from the
     * death of this process when the spool is a directory.
     *
     * @param type    its type
     * @param subject who used it
     * @param data    what was used; null: nothing to say
     * @return the event's id
     * @throws InvalidEventException for an event that no server would take
     * @throws SpoolFullException    when there is no room, as {@link Options.Builder#onFull} says
     */
    public String track(String type, String subject, Map<String, ?> data) {
        Event.Builder event = Event.of(type, subject);
        return track((data == null ? event : event.data(data)).build());
    }

    /**
     * Take one event, and answer at once: as {@link #track(String, String, Map)}.
     *
     * @param event the event
     * @return its id
     */
    public String track(Event event) {
        if (closed.get()) {
            throw new SpoolFullException("The client is closed.");
        }
        sender.put(event.line(options.source));
        return event.id();
    }

    /**
     * Send events now, past the spool, and answer what became of them: for tests and small jobs.
     *
     * @param events       the events
     * @param waitRecorded whether to wait until they count
     * @return the server's document: counts, {@code position}, and {@code results} of the events that were not taken; also
     *     where none was
     */
    public Map<String, Object> send(Collection<Event> events, boolean waitRecorded) {
        return sendDocuments(events.stream().map(event -> event.document(options.source)).toList(), waitRecorded);
    }

    /**
     * As {@link #send}, with events as the contract has them, unchecked; one without an id gets one.
     *
     * @param events       the events' documents
     * @param waitRecorded whether to wait until they count
     * @return the server's document
     */
    public Map<String, Object> sendDocuments(Collection<? extends Map<String, ?>> events, boolean waitRecorded) {
        List<Map<String, Object>> whole = new ArrayList<>();
        for (Map<String, ?> event : events) {
            Map<String, Object> named = new LinkedHashMap<>(event);
            if (named.get("id") == null || named.get("id").equals("")) {
                named.put("id", Event.newId());
            }
            whole.add(named);
        }
        try {
            return Json.object(questions.request("POST", waitRecorded ? "/v1/events?wait=recorded" : "/v1/events", whole));
        } catch (ProblemException problem) {
            if (problem.document().containsKey("results")) {
                return problem.document();
            }
            throw problem;
        }
    }

    /**
     * Send what waits now.
     *
     * @param timeout how long to wait for the server
     * @return whether all events that were there are answered for
     */
    public boolean flush(Duration timeout) {
        return sender.flush(timeout);
    }

    /** Have everything tracked so far on the disk, or with the server. */
    public void sync() {
        try {
            spool.sync();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** @return where events are */
    public Stats stats() {
        return new Stats(sender.tracked.sum(), sender.accepted.get(), sender.rejected.get(), sender.dropped.get(), spool.waiting(),
            spool.damaged(), sender.failures.get(), sender.lastFailure);
    }

    /**
     * Usage of a meter.
     *
     * @param query what is asked
     * @return the answer
     * @throws ProblemException     when the server refuses
     * @throws UnreachableException when no answer comes
     */
    public Usage usage(UsageQuery query) {
        return Usage.of(Json.object(
            questions.request("POST", "/v1/meters/" + Questions.segment(query.meter()) + "/usage", query.parameters())));
    }

    /**
     * May this be used? Nothing is held.
     *
     * @param customer the customer's key
     * @param meter    the meter's key
     * @param amount   exact
     * @return the answer
     */
    public Check check(String customer, String meter, BigDecimal amount) {
        return Check.of(Json.object(questions.request("POST", "/v1/check",
            Map.of("customer", customer, "meter", meter, "amount", Questions.amount(amount)))));
    }

    /**
     * May this be used? In whole numbers.
     *
     * @param customer the customer's key
     * @param meter    the meter's key
     * @param amount   exact
     * @return the answer
     */
    public Check check(String customer, String meter, long amount) {
        return check(customer, meter, BigDecimal.valueOf(amount));
    }

    /**
     * Hold an amount.
     *
     * @param customer the customer's key
     * @param meter    the meter's key
     * @param amount   exact
     * @param ttl      how long, in whole seconds
     * @return the reservation
     * @throws ProblemException {@code limit_exceeded} (409)
     */
    public Reservation reserve(String customer, String meter, BigDecimal amount, Duration ttl) {
        return new Reservation(this, Json.object(questions.request("POST", "/v1/reservations",
            Map.of("customer", customer, "meter", meter, "amount", Questions.amount(amount), "ttl_seconds", ttl.toSeconds()))));
    }

    /**
     * Hold an amount for a minute, in whole numbers.
     *
     * @param customer the customer's key
     * @param meter    the meter's key
     * @param amount   exact
     * @return the reservation
     * @throws ProblemException {@code limit_exceeded} (409)
     */
    public Reservation reserve(String customer, String meter, long amount) {
        return reserve(customer, meter, BigDecimal.valueOf(amount), Duration.ofMinutes(1));
    }

    /**
     * What was really used of a reservation that another process may have made.
     *
     * @param reservation its id
     * @param amount      exact
     * @param event       recorded in the same step; null: the server makes one
     * @return the server's answer
     */
    public Map<String, Object> settle(String reservation, BigDecimal amount, Event event) {
        Map<String, Object> given = new HashMap<>();
        given.put("amount", Questions.amount(amount));
        given.put("event", event == null ? null : event.document(options.source));
        return Json.object(
            questions.request("POST", "/v1/reservations/" + Questions.segment(reservation) + "/settle", given));
    }

    /**
     * Give a reservation back.
     *
     * @param reservation its id
     * @return the server's answer
     */
    public Map<String, Object> release(String reservation) {
        return Json.object(
            questions.request("POST", "/v1/reservations/" + Questions.segment(reservation) + "/release", Map.of()));
    }

    /** @return the meters */
    public Resources<Meter> meters() {
        return new Resources<>(this, "/v1/meters", Meter::of);
    }

    /** @return the customers */
    public Resources<Customer> customers() {
        return new Resources<>(this, "/v1/customers", Customer::of);
    }

    /**
     * Any other route of the contract.
     *
     * @param method     GET, POST, PATCH, PUT or DELETE
     * @param path       from /v1 on
     * @param parameters the query; may be empty
     * @param document   the body, as {@link Json#write} takes it; null: none
     * @return the answer's document; null where it has none
     * @throws ProblemException     when the server refuses
     * @throws UnreachableException when no answer comes
     */
    public Object request(String method, String path, Map<String, ?> parameters, Object document) {
        return questions.request(method, path + Questions.query(new LinkedHashMap<>(parameters)), document);
    }

    /** Send what waits, within {@link Options.Builder#closeWaitMax}, then end. What is not sent stays in the directory. */
    @Override
    public void close() {
        close(options.closeWaitMax);
    }

    /**
     * Send what waits, then end. What is not answered for waits in the spool's directory for the next process.
     *
     * @param timeout how long to wait for the server
     * @return whether everything was answered for
     */
    public boolean close(Duration timeout) {
        if (atExit != null) {
            try {
                Runtime.getRuntime().removeShutdownHook(atExit);
            } catch (IllegalStateException error) {
                // The virtual machine ends already, and the hook does this too; whoever comes first.
            }
        }
        return end(timeout);
    }

    private boolean end(Duration timeout) {
        if (!closed.compareAndSet(false, true)) {
            return spool.waiting() == 0;
        }
        boolean complete = sender.flush(timeout);
        sender.stop();
        questions.close();
        spool.close();
        return complete && spool.waiting() == 0;
    }
}
