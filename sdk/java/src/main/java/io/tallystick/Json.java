package io.tallystick;

import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.temporal.TemporalAccessor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/**
 * JSON, exactly: every number is read as a {@link BigDecimal} from its text, and a {@code BigDecimal} is written with
 * every digit. Objects are {@code Map<String, Object>} in order, arrays are {@code List<Object>}.
 */
public final class Json {
    private static final int DEPTH_MAX = 200;
    private static final int NUMBER_CHARACTERS_MAX = 1_000;
    private static final int PLAIN_SCALE_MAX = 100;

    private Json() {
    }

    /**
     * Read a document.
     *
     * @param text the whole document, in UTF-8
     * @return a Map, List, String, BigDecimal, Boolean or null
     * @throws IllegalArgumentException where it is no JSON; the message names the place
     */
    public static Object read(byte[] text) {
        try {
            return read(StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text)).toString());
        } catch (CharacterCodingException error) {
            throw new IllegalArgumentException("The text is not UTF-8.", error);
        }
    }

    /**
     * Read a document.
     *
     * @param text the whole document
     * @return a Map, List, String, BigDecimal, Boolean or null
     * @throws IllegalArgumentException where it is no JSON; the message names the place
     */
    public static Object read(String text) {
        Reader reader = new Reader(text);
        Object value = reader.value(0);
        reader.space();
        if (reader.at < text.length()) {
            throw reader.wrong("nothing more");
        }
        return value;
    }

    /**
     * Write a value: a Map, Iterable, array, CharSequence, Number, Boolean, time, UUID, enum, Optional or null.
     *
     * @param value what to write
     * @return its JSON, on one line
     * @throws IllegalArgumentException for what JSON has no word for: NaN, another class, a tree deeper than 200
     */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder(128);
        write(out, value, 0);
        return out.toString();
    }

    /** A map whose names are text: what {@link #read} makes of an object. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value) {
        if (value instanceof Map<?, ?> map) {
            return (Map<String, Object>) map;
        }
        throw new UnreachableException("The answer is no JSON object: is there a proxy?");
    }

    /** The member's list; empty where there is none. */
    @SuppressWarnings("unchecked")
    static List<Object> list(Map<String, Object> document, String name) {
        return document.get(name) instanceof List<?> list ? (List<Object>) list : List.of();
    }

    /** The member's text; null where there is none. */
    static String text(Map<String, Object> document, String name) {
        Object value = document.get(name);
        return value == null ? null : value.toString();
    }

    /** The member's number, written as text or as number; null where there is none. */
    static BigDecimal decimal(Map<String, Object> document, String name) {
        Object value = document.get(name);
        return value == null ? null : value instanceof BigDecimal number ? number : new BigDecimal(value.toString());
    }

    static void write(StringBuilder out, Object value, int depth) {
        if (depth > DEPTH_MAX) {
            throw new IllegalArgumentException("The value is deeper than " + DEPTH_MAX + " levels.");
        }
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character) {
            writeText(out, value.toString());
        } else if (value instanceof Number number) {
            writeNumber(out, number);
        } else if (value instanceof Map<?, ?> map) {
            writeObject(out, map, depth);
        } else if (value instanceof Iterable<?> items) {
            char before = '[';
            for (Object item : items) {
                out.append(before);
                write(out, item, depth + 1);
                before = ',';
            }
            out.append(before == '[' ? "[]" : "]");
        } else if (value.getClass().isArray()) {
            out.append('[');
            for (int index = 0; index < Array.getLength(value); index++) {
                if (index > 0) {
                    out.append(',');
                }
                write(out, Array.get(value, index), depth + 1);
            }
            out.append(']');
        } else if (value instanceof Optional<?> optional) {
            write(out, optional.orElse(null), depth + 1);
        } else if (value instanceof TemporalAccessor || value instanceof UUID) {
            writeText(out, value.toString());
        } else if (value instanceof Enum<?> constant) {
            writeText(out, constant.name());
        } else {
            throw new IllegalArgumentException("A " + value.getClass().getName() + " is no JSON.");
        }
    }

    private static void writeObject(StringBuilder out, Map<?, ?> map, int depth) {
        char before = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (entry.getKey() == null) {
                throw new IllegalArgumentException("A name in an object is null.");
            }
            out.append(before);
            writeText(out, entry.getKey().toString());
            out.append(':');
            write(out, entry.getValue(), depth + 1);
            before = ',';
        }
        out.append(before == '{' ? "{}" : "}");
    }

    private static void writeNumber(StringBuilder out, Number number) {
        if (number instanceof BigDecimal decimal) {
            // Plain while that is short: 1E+1000000000 has an exact text, and no memory holds its digits.
            out.append(Math.abs((long) decimal.scale()) <= PLAIN_SCALE_MAX ? decimal.toPlainString() : decimal.toString());
        } else if (number instanceof Double || number instanceof Float) {
            if (!Double.isFinite(number.doubleValue())) {
                throw new IllegalArgumentException(number + " is no JSON number.");
            }
            out.append(number);
        } else if (number instanceof Integer || number instanceof Long || number instanceof Short
            || number instanceof Byte || number instanceof BigInteger) {
            out.append(number);
        } else {
            // An AtomicLong, a LongAdder, a number of another library: read its text, or refuse it.
            try {
                out.append(new BigDecimal(number.toString()).toPlainString());
            } catch (NumberFormatException error) {
                throw new IllegalArgumentException("A " + number.getClass().getName() + " is no JSON number.", error);
            }
        }
    }

    static void writeText(StringBuilder out, String text) {
        out.append('"');
        for (int index = 0; index < text.length(); index++) {
            char c = text.charAt(index);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c) && !paired(text, index)) {
                out.append("\\u").append(Character.forDigit(c >> 12, 16)).append(Character.forDigit(c >> 8 & 15, 16))
                    .append(Character.forDigit(c >> 4 & 15, 16)).append(Character.forDigit(c & 15, 16));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    /** Whether a surrogate has its other half: alone it has no UTF-8, and is written as an escape. */
    private static boolean paired(String text, int index) {
        return Character.isHighSurrogate(text.charAt(index))
            ? index + 1 < text.length() && Character.isLowSurrogate(text.charAt(index + 1))
            : index > 0 && Character.isHighSurrogate(text.charAt(index - 1));
    }

    private static final class Reader {
        private final String text;
        private int at;

        Reader(String text) {
            this.text = text;
        }

        IllegalArgumentException wrong(String wanted) {
            String found = at < text.length() ? "'" + text.charAt(at) + "'" : "the end";
            return new IllegalArgumentException("At character " + at + ": " + found + ", where " + wanted + " is wanted.");
        }

        void space() {
            while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
        }

        private boolean took(char wanted) {
            space();
            if (at < text.length() && text.charAt(at) == wanted) {
                at++;
                return true;
            }
            return false;
        }

        private void take(char wanted) {
            if (!took(wanted)) {
                throw wrong("'" + wanted + "'");
            }
        }

        Object value(int depth) {
            if (depth > DEPTH_MAX) {
                throw new IllegalArgumentException("The document is deeper than " + DEPTH_MAX + " levels.");
            }
            space();
            if (at >= text.length()) {
                throw wrong("a value");
            }
            return switch (text.charAt(at)) {
                case '{' -> map(depth);
                case '[' -> array(depth);
                case '"' -> string();
                case 't' -> word("true", Boolean.TRUE);
                case 'f' -> word("false", Boolean.FALSE);
                case 'n' -> word("null", null);
                default -> number();
            };
        }

        private Object word(String word, Object value) {
            if (!text.startsWith(word, at)) {
                throw wrong(word);
            }
            at += word.length();
            return value;
        }

        private Map<String, Object> map(int depth) {
            Map<String, Object> found = new LinkedHashMap<>();
            take('{');
            if (took('}')) {
                return found;
            }
            do {
                space();
                if (at >= text.length() || text.charAt(at) != '"') {
                    throw wrong("a name");
                }
                String name = string();
                take(':');
                found.put(name, value(depth + 1));
            } while (took(','));
            take('}');
            return Collections.unmodifiableMap(found);
        }

        private List<Object> array(int depth) {
            List<Object> found = new ArrayList<>();
            take('[');
            if (took(']')) {
                return found;
            }
            do {
                found.add(value(depth + 1));
            } while (took(','));
            take(']');
            return Collections.unmodifiableList(found);
        }

        private BigDecimal number() {
            int from = at;
            if (at < text.length() && text.charAt(at) == '-') {
                at++;
            }
            int whole = digits();
            if (whole > 1 && text.charAt(at - whole) == '0') {
                at -= whole - 1;
                throw wrong("no digit after a leading 0");
            }
            if (at < text.length() && text.charAt(at) == '.') {
                at++;
                digits();
            }
            if (at < text.length() && (text.charAt(at) | 32) == 'e') {
                at++;
                if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
                    at++;
                }
                digits();
            }
            if (at - from > NUMBER_CHARACTERS_MAX) {
                throw new IllegalArgumentException("At character " + from + ": a number of " + (at - from) + " characters.");
            }
            try {
                return new BigDecimal(text.substring(from, at));
            } catch (NumberFormatException error) {
                throw new IllegalArgumentException("At character " + from + ": the exponent is out of range.", error);
            }
        }

        private int digits() {
            int from = at;
            while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
                at++;
            }
            if (at == from) {
                throw wrong("a digit");
            }
            return at - from;
        }

        private String string() {
            int from = ++at;
            StringBuilder out = null;
            while (at < text.length()) {
                char c = text.charAt(at);
                if (c == '"') {
                    String rest = text.substring(from, at++);
                    return out == null ? rest : out.append(rest).toString();
                }
                if (c < ' ') {
                    throw wrong("no control character");
                }
                if (c == '\\') {
                    out = (out == null ? new StringBuilder() : out).append(text, from, at);
                    at++;
                    out.append(escaped());
                    from = at;
                } else {
                    at++;
                }
            }
            throw wrong("the end of a text");
        }

        private char escaped() {
            if (at >= text.length()) {
                throw wrong("an escape");
            }
            int plain = "\"\\/bfnrt".indexOf(text.charAt(at));
            if (plain >= 0) {
                at++;
                return "\"\\/\b\f\n\r\t".charAt(plain);
            }
            if (text.charAt(at) != 'u' || at + 5 > text.length()) {
                throw wrong("an escape");
            }
            int code = 0;
            for (int digit = 1; digit <= 4; digit++) {
                char c = text.charAt(at + digit);
                int value = c < 128 ? Character.digit(c, 16) : -1;
                if (value < 0) {
                    throw wrong("an escape of four hexadecimal digits");
                }
                code = code << 4 | value;
            }
            at += 5;
            return (char) code;
        }
    }
}
