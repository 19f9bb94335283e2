package io.tallystick;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.math.BigDecimal;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JsonTest {
    @ParameterizedTest
    @ValueSource(strings = {
        "null", "true", "[false,null]", "{}", "[]", "0.1000000000000000000000001", "-1.50", "123456789012345678901234567890",
        "{\"a\":[1,{\"b\":\"c\"}],\"a b\":\"\"}", "\"é漢😀\"", "\"\\\"\\\\\"", "\"\\u0000\\u001f\"", "\"\\ud800\"", "\"\\udc00x\"",
    })
    void whatIsReadIsWrittenAgain(String text) {
        assertEquals(text, Json.write(Json.read(text)));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "", " ", "{", "}", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "01", "-", "1.", ".5", "1e", "+1", "NaN", "tru",
        "\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\n\"", "1 2", "[1 2]", "1e99999999999", "'a'", "\"\\", "１",
    })
    void whatIsNoJsonIsRefused(String text) {
        assertThrows(IllegalArgumentException.class, () -> Json.read(text));
    }

    @Test
    void escapesAndSpaces() {
        assertEquals(Map.of("a/", List.of("\b\f\n\r\té😀", new BigDecimal("1.5E+3"))),
            Json.read(" { \"a\\/\" : [ \"\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\" , 1.5E+3 ] }\r\n"));
    }

    @Test
    void bounds() {
        assertThrows(IllegalArgumentException.class, () -> Json.read("[".repeat(100_000)));
        assertThrows(IllegalArgumentException.class, () -> Json.read("1".repeat(2_000)));
        assertThrows(IllegalArgumentException.class, () -> Json.read(new byte[] {'"', (byte) 0xff, '"'}));
        List<Object> itself = Arrays.asList(new Object[1]);
        itself.set(0, itself);
        assertThrows(IllegalArgumentException.class, () -> Json.write(itself));
        assertEquals("1E+1000000000", Json.write(new BigDecimal("1E+1000000000")));
    }

    @Test
    void valuesOfJava() {
        UUID uuid = new UUID(1, 2);
        assertEquals("[1,2.5,7,\"" + uuid + "\",\"2026-01-01T00:00:00Z\",null,3,\"WAIT\",[1,2],1000]",
            Json.write(Arrays.asList(1, 2.5, new AtomicLong(7), uuid, Instant.parse("2026-01-01T00:00:00Z"), Optional.empty(),
                Optional.of(3), Options.OnFull.WAIT, new int[] {1, 2}, new BigDecimal("1E+3"))));
        assertThrows(IllegalArgumentException.class, () -> Json.write(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> Json.write(Float.POSITIVE_INFINITY));
        assertThrows(IllegalArgumentException.class, () -> Json.write(new Object()));
    }
}
