package io.tallystick;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Who is charged. {@code document} has every member, also those that are not named here.
 *
 * @param document the contract's document
 */
public record Customer(Map<String, Object> document) implements Resources.Definition {
    static Customer of(Map<String, Object> document) {
        return new Customer(document);
    }

    /**
     * Begin a customer.
     *
     * @param key its key
     * @return a builder
     */
    public static Builder of(String key) {
        return new Builder(key);
    }

    /** @return its key */
    public String key() {
        return Json.text(document, "key");
    }

    /** @return what people call it */
    public String name() {
        return Json.text(document, "name");
    }

    /** @return whose events are its own */
    public List<String> subjects() {
        return Json.list(document, "subjects").stream().map(Object::toString).toList();
    }

    /** Makes a {@link Customer}. */
    public static final class Builder {
        private final Map<String, Object> document = new LinkedHashMap<>();

        private Builder(String key) {
            document.put("key", key);
            document.put("name", key);
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
         * Whose events are its own.
         *
         * @param values subjects of events
         * @return this
         */
        public Builder subjects(String... values) {
            return with("subjects", List.of(values));
        }

        /**
         * Any other member of the contract: parent, currency, timezone, email, external_ids, traits.
         *
         * @param name  its name
         * @param value its value
         * @return this
         */
        public Builder with(String name, Object value) {
            document.put(name, value);
            return this;
        }

        /** @return the customer, to be created */
        public Customer build() {
            return new Customer(Collections.unmodifiableMap(new LinkedHashMap<>(document)));
        }
    }
}
