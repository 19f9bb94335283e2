package io.tallystick;

import java.math.BigDecimal;
import java.time.Instant;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * An answer to a question about a meter.
 *
 * @param meter    the meter's key
 * @param rows     by window, then group
 * @param position how far the events were recorded that it counts; null where the server does not say
 * @param document the whole answer
 */
public record Usage(String meter, List<Row> rows, String position, Map<String, Object> document) {
    /**
     * One window of one group.
     *
     * @param windowStart inclusive
     * @param windowEnd   exclusive
     * @param group       names and values; a missing dimension is null
     * @param value       exact; null for a maximum, an average and the like of nothing
     */
    public record Row(Instant windowStart, Instant windowEnd, Map<String, String> group, BigDecimal value) {
        static Row of(Map<String, Object> row) {
            Map<String, String> group = new LinkedHashMap<>();
            Json.object(row.get("group")).forEach((name, value) -> group.put(name, value == null ? null : value.toString()));
            return new Row(Instant.parse(Json.text(row, "window_start")), Instant.parse(Json.text(row, "window_end")),
                Collections.unmodifiableMap(group), Json.decimal(row, "value"));
        }
    }

    static Usage of(Map<String, Object> document) {
        List<Row> rows = Json.list(document, "rows").stream().map(row -> Row.of(Json.object(row))).toList();
        return new Usage(Json.text(document, "meter"), rows, Json.text(document, "position"), document);
    }
}
