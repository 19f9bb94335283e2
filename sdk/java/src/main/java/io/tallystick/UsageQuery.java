package io.tallystick;

import java.time.Instant;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A question about a meter, by the contract's names. Every method answers a new question.
 *
 * <pre>{@code
 * UsageQuery.of("tokens").from(start).window("day").groupBy("customer", "model");
 * }</pre>
 */
public final class UsageQuery {
    private final String meter;
    private final Map<String, Object> parameters;

    private UsageQuery(String meter, Map<String, Object> parameters) {
        this.meter = meter;
        this.parameters = parameters;
    }

    /**
     * Usage of the last 30 days, in one total.
     *
     * @param meter the meter's key
     * @return the question
     */
    public static UsageQuery of(String meter) {
        return new UsageQuery(meter, Map.of());
    }

    /**
     * Any parameter of the contract.
     *
     * @param name  its name
     * @param value its value, as JSON
     * @return the question with it
     */
    public UsageQuery with(String name, Object value) {
        Map<String, Object> more = new LinkedHashMap<>(parameters);
        more.put(name, value);
        return new UsageQuery(meter, more);
    }

    /**
     * From when on.
     *
     * @param time inclusive
     * @return the question with it
     */
    public UsageQuery from(Instant time) {
        return with("from", time);
    }

    /**
     * Until when.
     *
     * @param time exclusive
     * @return the question with it
     */
    public UsageQuery to(Instant time) {
        return with("to", time);
    }

    /**
     * One row for each window.
     *
     * @param window minute, 5m, 15m, hour, day, week, month, quarter or year
     * @return the question with it
     */
    public UsageQuery window(String window) {
        return with("window", window);
    }

    /**
     * The zone of the windows.
     *
     * @param zone an IANA name
     * @return the question with it
     */
    public UsageQuery timezone(String zone) {
        return with("timezone", zone);
    }

    /**
     * Of these customers alone.
     *
     * @param keys their keys
     * @return the question with it
     */
    public UsageQuery customers(String... keys) {
        return with("customer", List.of(keys));
    }

    /**
     * One row for each group.
     *
     * @param names customer, subject, or dimensions of the meter
     * @return the question with it
     */
    public UsageQuery groupBy(String... names) {
        return with("group_by", List.of(names));
    }

    /**
     * Only where a dimension has one of these values.
     *
     * @param dimension its name
     * @param values    the values
     * @return the question with it
     */
    public UsageQuery filter(String dimension, String... values) {
        return filter(dimension, Map.of("in", Arrays.asList(values)));
    }

    /**
     * Only where a dimension meets conditions.
     *
     * @param dimension  its name
     * @param conditions {@code eq ne in not_in prefix gt gte lt lte exists} and what they compare with
     * @return the question with it
     */
    public UsageQuery filter(String dimension, Map<String, ?> conditions) {
        Map<String, Object> filter = new LinkedHashMap<>();
        if (parameters.get("filter") instanceof Map<?, ?> before) {
            before.forEach((name, value) -> filter.put(name.toString(), value));
        }
        filter.put(dimension, conditions);
        return with("filter", filter);
    }

    /**
     * Wait until this is counted: read your own writes.
     *
     * @param position of an answer to events
     * @return the question with it
     */
    public UsageQuery minPosition(String position) {
        return with("min_position", position);
    }

    String meter() {
        return meter;
    }

    Map<String, Object> parameters() {
        return parameters;
    }
}
