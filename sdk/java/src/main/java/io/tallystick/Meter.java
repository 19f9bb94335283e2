package io.tallystick;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What is counted of which events. {@code document} has every member, also those that are not named here.
 *
 * @param document the contract's document
 */
public record Meter(Map<String, Object> document) implements Resources.Definition {
    static Meter of(Map<String, Object> document) {
        return new Meter(document);
    }

    /**
     * Begin a meter.
     *
     * @param key         its key
     * @param eventType   of which events
     * @param aggregation count, sum, min, max, average, latest, unique_count, p50 to p99, time_weighted, duration, register
     * @return a builder
     */
    public static Builder of(String key, String eventType, String aggregation) {
        return new Builder(key, eventType, aggregation);
    }

    /** @return its key */
    public String key() {
        return Json.text(document, "key");
    }

    /** @return of which events */
    public String eventType() {
        return Json.text(document, "event_type");
    }

    /** @return how they are added up */
    public String aggregation() {
        return Json.text(document, "aggregation");
    }

    /** Makes a {@link Meter}. */
    public static final class Builder {
        private final Map<String, Object> document = new LinkedHashMap<>();
        private final Map<String, Object> dimensions = new LinkedHashMap<>();

        private Builder(String key, String eventType, String aggregation) {
            document.put("key", key);
            document.put("name", key);
            document.put("event_type", eventType);
            document.put("aggregation", aggregation);
        }

        /**
         * What people call it.
         *
         * @param value default: the key
         * @return this
         */
        public Builder name(String value) {
            return with("name", value);
        }

        /**
         * Where in {@code data} its number is.
         *
         * @param path a JSONPath, as {@code $.tokens}
         * @return this
         */
        public Builder value(String path) {
            return with("value", path);
        }

        /**
         * A member of {@code data} that usage can be grouped and filtered by.
         *
         * @param name its name in questions
         * @param path a JSONPath, as {@code $.model}
         * @return this
         */
        public Builder dimension(String name, String path) {
            dimensions.put(name, path);
            return this;
        }

        /**
         * Which events count.
         *
         * @param expression in CEL, over the event
         * @return this
         */
        public Builder filter(String expression) {
            return with("filter", expression);
        }

        /**
         * What its numbers are.
         *
         * @param value as {@code token}
         * @return this
         */
        public Builder unit(String value) {
            return with("unit", value);
        }

        /**
         * Any other member of the contract.
         *
         * @param name  its name
         * @param value its value
         * @return this
         */
        public Builder with(String name, Object value) {
            document.put(name, value);
            return this;
        }

        /** @return the meter, to be created */
        public Meter build() {
            Map<String, Object> whole = new LinkedHashMap<>(document);
            if (!dimensions.isEmpty()) {
                whole.put("dimensions", new LinkedHashMap<>(dimensions));
            }
            return new Meter(Collections.unmodifiableMap(whole));
        }
    }
}
