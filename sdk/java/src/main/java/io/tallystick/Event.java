package io.tallystick;

import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/**
 * One thing that was used. Its identity is (source, id), for ever: the id is made when the event is, and every attempt
 * to send it sends the same.
 *
 * <pre>{@code
 * Event.of("llm.completion", "acme").data("tokens", 812).data("model", "atlas").build();
 * }</pre>
 */
public final class Event {
    /** The largest event, in bytes of JSON. */
    public static final int BYTES_MAX = 1024 * 1024;

    private static final int SUBJECT_CHARACTERS_MAX = 256;
    private static final String PREFIX = prefix();
    private static final AtomicLong NUMBERS = new AtomicLong();

    private final String id;
    private final String source;
    private final String type;
    private final String subject;
    private final String time;
    private final Map<String, Object> data;

    private Event(Builder builder) {
        id = builder.id;
        source = builder.source;
        type = builder.type;
        subject = builder.subject;
        time = builder.time == null ? Instant.now().truncatedTo(ChronoUnit.MICROS).toString() : builder.time;
        data = Collections.unmodifiableMap(new LinkedHashMap<>(builder.data));
    }

    /**
     * Begin an event.
     *
     * @param type    its type: what a meter names as {@code event_type}
     * @param subject who used it
     * @return a builder
     */
    public static Builder of(String type, String subject) {
        return new Builder(type, subject);
    }

    /** @return an id that no other event has: 96 random bits of this process, and a number */
    public static String newId() {
        return PREFIX + Long.toHexString(NUMBERS.getAndIncrement());
    }

    private static String prefix() {
        byte[] bits = new byte[12];
        new SecureRandom().nextBytes(bits);
        return HexFormat.of().formatHex(bits) + "-";
    }

    /** @return the id */
    public String id() {
        return id;
    }

    /** @return the source; null: the client's */
    public String source() {
        return source;
    }

    /** @return the type */
    public String type() {
        return type;
    }

    /** @return who used it */
    public String subject() {
        return subject;
    }

    /** @return when, in RFC 3339 */
    public String time() {
        return time;
    }

    /** @return what was used */
    public Map<String, Object> data() {
        return data;
    }

    /** The event as the contract has it, with the source of the client where it names none. */
    Map<String, Object> document(String clientSource) {
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("id", id);
        document.put("source", source == null ? clientSource : source);
        document.put("type", type);
        document.put("subject", subject);
        document.put("time", time);
        if (!data.isEmpty()) {
            document.put("data", data);
        }
        return document;
    }

    /** The event's bytes, without a newline. */
    byte[] line(String clientSource) {
        byte[] line;
        try {
            line = Json.write(document(clientSource)).getBytes(StandardCharsets.UTF_8);
        } catch (IllegalArgumentException error) {
            throw new InvalidEventException("data: " + error.getMessage());
        }
        if (line.length > BYTES_MAX) {
            throw new InvalidEventException("The event has " + line.length + " bytes; at most " + BYTES_MAX + " may be.");
        }
        return line;
    }

    /** Makes an {@link Event}. Used once, by one thread. */
    public static final class Builder {
        private final String type;
        private final String subject;
        private final Map<String, Object> data = new LinkedHashMap<>();
        private String id;
        private String source;
        private String time;

        private Builder(String type, String subject) {
            this.type = type;
            this.subject = subject;
        }

        /**
         * Name the event yourself, so that the same thing told twice counts once.
         *
         * @param value the id
         * @return this
         */
        public Builder id(String value) {
            id = value;
            return this;
        }

        /**
         * The source, where it is not the client's.
         *
         * @param value the source
         * @return this
         */
        public Builder source(String value) {
            source = value;
            return this;
        }

        /**
         * When it was; without it: now.
         *
         * @param value the moment; microseconds are kept
         * @return this
         */
        public Builder time(Instant value) {
            time = value.toString();
            return this;
        }

        /**
         * When it was; without it: now.
         *
         * @param value the moment
         * @return this
         */
        public Builder time(OffsetDateTime value) {
            time = value.toInstant().toString();
            return this;
        }

        /**
         * One member of {@code data}.
         *
         * @param name  its name
         * @param value what {@link Json#write} takes; a {@link java.math.BigDecimal} keeps every digit
         * @return this
         */
        public Builder data(String name, Object value) {
            data.put(name, value);
            return this;
        }

        /**
         * Members of {@code data}, beside those there are.
         *
         * @param members names and values
         * @return this
         */
        public Builder data(Map<String, ?> members) {
            data.putAll(members);
            return this;
        }

        /**
         * The event, with its id and its time.
         *
         * @return it
         * @throws InvalidEventException naming everything that is missing or too long
         */
        public Event build() {
            List<String> wrong = new ArrayList<>();
            if (type == null || type.isEmpty()) {
                wrong.add("type is empty");
            }
            if (subject == null || subject.isEmpty()) {
                wrong.add("subject is empty");
            } else if (subject.codePointCount(0, subject.length()) > SUBJECT_CHARACTERS_MAX) {
                wrong.add("subject is longer than " + SUBJECT_CHARACTERS_MAX + " characters");
            }
            if (id != null && id.isEmpty()) {
                wrong.add("id is empty");
            }
            if (source != null && source.isEmpty()) {
                wrong.add("source is empty");
            }
            if (!wrong.isEmpty()) {
                throw new InvalidEventException(String.join(", ", wrong) + ".");
            }
            if (id == null) {
                id = newId();
            }
            return new Event(this);
        }
    }
}
