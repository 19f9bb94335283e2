package io.tallystick;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.function.Consumer;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Tracks the tokens of language models: one event for each answer, whose id is the answer's own, so that an answer tracked
 * twice counts once. See {@link LlmTokens} for what is read.
 *
 * <pre>{@code
 * Llm llm = Llm.of(client, "acme");
 * llm.track(openai.chat().completions().create(params));
 * try (Stream<RawMessageStreamEvent> pieces = llm.stream(response.stream())) { … }
 * }</pre>
 */
public final class Llm {
    private final Client client;
    private final String subject;
    private final String model;
    private final String eventType;
    private final Map<String, Object> data;

    private Llm(Client client, String subject, String model, String eventType, Map<String, Object> data) {
        this.client = client;
        this.subject = subject;
        this.model = model;
        this.eventType = eventType;
        this.data = data;
    }

    /**
     * For one customer. Cheap to make.
     *
     * @param client  takes the events
     * @param subject who is charged
     * @return the helper; events are of the type {@code llm.completion}
     */
    public static Llm of(Client client, String subject) {
        return new Llm(client, subject, "", "llm.completion", Map.of());
    }

    /**
     * The model, for answers that do not name it (Bedrock).
     *
     * @param name its name
     * @return a helper with it
     */
    public Llm model(String name) {
        return new Llm(client, subject, name, eventType, data);
    }

    /**
     * Another type for the events.
     *
     * @param type the type
     * @return a helper with it
     */
    public Llm eventType(String type) {
        return new Llm(client, subject, model, type, data);
    }

    /**
     * More members for the events' {@code data}.
     *
     * @param members names and values
     * @return a helper with them
     */
    public Llm data(Map<String, ?> members) {
        Map<String, Object> more = new LinkedHashMap<>(data);
        more.putAll(members);
        return new Llm(client, subject, model, eventType, more);
    }

    /**
     * Track a whole answer.
     *
     * @param answer the answer
     * @return the event's id; empty when the answer has no usage
     */
    public Optional<String> track(Object answer) {
        return tell(new LlmTokens(model).add(answer));
    }

    /**
     * Pass a stream on, and track its tokens at its end, or when it is closed before.
     *
     * @param pieces the stream; closed with the one that is answered
     * @param <T>    what it is of
     * @return the same pieces
     */
    public <T> Stream<T> stream(Stream<T> pieces) {
        Tracker tracker = begin();
        Spliterator<T> from = pieces.spliterator();
        Spliterator<T> through = new Spliterators.AbstractSpliterator<>(from.estimateSize(), Spliterator.ORDERED) {
            @Override
            public boolean tryAdvance(Consumer<? super T> action) {
                boolean more = from.tryAdvance(piece -> {
                    tracker.add(piece);
                    action.accept(piece);
                });
                if (!more) {
                    tracker.close();
                }
                return more;
            }
        };
        return StreamSupport.stream(through, false).onClose(tracker::close).onClose(pieces::close);
    }

    /** @return takes pieces one by one, for streams that call back */
    public Tracker begin() {
        return new Tracker();
    }

    private Optional<String> tell(LlmTokens tokens) {
        if (!tokens.found()) {
            return Optional.empty();
        }
        Event.Builder event = Event.of(eventType, subject).data(tokens.data()).data(data);
        if (!tokens.responseId().isEmpty()) {
            event.id(tokens.responseId()).source("llm/" + tokens.provider());
        }
        return Optional.of(client.track(event.build()));
    }

    /** The tokens of one answer in pieces. Closing tracks them, once. */
    public final class Tracker implements AutoCloseable {
        private final LlmTokens tokens = new LlmTokens(model);
        private Optional<String> id = Optional.empty();
        private boolean closed;

        private Tracker() {
        }

        /**
         * One more piece.
         *
         * @param piece of the stream
         */
        public synchronized void add(Object piece) {
            tokens.add(piece);
        }

        /** The stream is over. */
        @Override
        public synchronized void close() {
            if (!closed) {
                closed = true;
                id = tell(tokens);
            }
        }

        /** @return the event's id, once closed; empty when no piece had usage */
        public synchronized Optional<String> id() {
            return id;
        }
    }
}
