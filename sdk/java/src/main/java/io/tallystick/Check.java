package io.tallystick;

import java.math.BigDecimal;
import java.util.Map;

/**
 * Whether an amount may be used. {@code limit} and what follows are null when no limit speaks.
 *
 * @param allowed   whether it may
 * @param limit     how much may be in the period
 * @param used      how much is
 * @param held      how much is reserved
 * @param remaining how much is left, never below 0
 * @param resetAt   when the next period begins
 * @param rule      the key of the limit that speaks
 * @param reason    why not
 */
public record Check(boolean allowed, BigDecimal limit, BigDecimal used, BigDecimal held, BigDecimal remaining,
                    String resetAt, String rule, String reason) {
    static Check of(Map<String, Object> document) {
        return new Check(Boolean.TRUE.equals(document.get("allowed")), Json.decimal(document, "limit"),
            Json.decimal(document, "used"), Json.decimal(document, "held"), Json.decimal(document, "remaining"),
            Json.text(document, "reset_at"), Json.text(document, "rule"), Json.text(document, "reason"));
    }
}
