package io.tallystick;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Tokens of a language model's answer, read into one shape from what OpenAI, Anthropic and Amazon Bedrock answer.
 *
 * <p>{@code input_tokens} are all tokens read, those from a cache included; {@code cached_input_tokens} were read from the
 * cache, {@code cache_write_tokens} written into it; {@code output_tokens} are all written, {@code reasoning_tokens} those
 * of them not shown. The vendors count differently: OpenAI's prompt_tokens include cached ones, Anthropic's and Bedrock's do
 * not.
 *
 * <p>A piece may be a Map, JSON text or bytes, a line of server-sent events ({@code data: {…}}), or an object of the vendors'
 * Java libraries, whose accessors are called by name: nothing of the vendors is needed to compile or run this.
 *
 * <p>Not safe for several threads.
 */
public final class LlmTokens {
    private static final ClassValue<Map<String, Optional<Method>>> ACCESSORS = new ClassValue<>() {
        @Override
        protected Map<String, Optional<Method>> computeValue(Class<?> type) {
            return new ConcurrentHashMap<>();
        }
    };

    private String provider = "";
    private String model;
    private String responseId = "";
    private long input;
    private long cached;
    private long cacheWritten;
    private long output;
    private long reasoning;
    private boolean found;

    /** @param model for answers that do not name it (Bedrock); may be empty */
    public LlmTokens(String model) {
        this.model = model;
    }

    /**
     * Read a whole answer, or one piece of a stream, on top of those before it.
     *
     * @param piece the answer or piece; what says nothing of tokens changes nothing
     * @return this
     */
    public LlmTokens add(Object piece) {
        Object answer = piece instanceof CharSequence || piece instanceof byte[] ? parsed(piece) : piece;
        // OpenAI's Responses stream (response.completed), Anthropic's (message_start), Bedrock's (metadata); and the same in
        // the unions of the vendors' Java libraries.
        for (Object part : new Object[] {
            answer, get(answer, "response"), get(answer, "message"), get(answer, "metadata"),
            get(answer, "completed", "response"), get(answer, "message_start", "message"), get(answer, "message_delta"),
        }) {
            if (part != null) {
                name(part);
                Object usage = get(part, "usage");
                if (usage != null) {
                    usage(usage);
                }
            }
        }
        return this;
    }

    private void name(Object part) {
        String named = text(get(part, "model"));
        if (named != null) {
            model = named;
        }
        Object id = get(part, "id");
        if (id == null) {
            id = get(part, "ResponseMetadata", "RequestId");
        }
        if (id == null) {
            id = get(part, "response_metadata", "request_id");
        }
        if (id instanceof String given) {
            responseId = given;
        }
    }

    private void usage(Object usage) {
        found = true;
        if (get(usage, "inputTokens") != null && get(usage, "input_tokens_details") == null && isBedrock(usage)) {
            provider = "bedrock";
            separate(usage, "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens");
            output = count(usage, "outputTokens");
        } else if (get(usage, "prompt_tokens") != null) {
            openai(usage, "prompt_tokens", "completion_tokens");
        } else if (get(usage, "input_tokens_details") != null) { // not output_tokens_details: Anthropic's answers have those too
            openai(usage, "input_tokens", "output_tokens");
        } else {
            provider = "anthropic";
            separate(usage, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens");
            // message_start and each message_delta carry the count so far, not a difference
            output = Math.max(output, count(usage, "output_tokens"));
            reasoning = Math.max(reasoning, count(usage, "output_tokens_details", "thinking_tokens"));
        }
    }

    private void openai(Object usage, String read, String written) {
        provider = "openai";
        input = count(usage, read);
        cached = count(usage, read + "_details", "cached_tokens");
        cacheWritten = count(usage, read + "_details", "cache_write_tokens");
        output = count(usage, written);
        reasoning = count(usage, written + "_details", "reasoning_tokens");
    }

    /** In objects both vendors' accessors are inputTokens(); what is written to the cache has two names. */
    private static boolean isBedrock(Object usage) {
        return usage instanceof Map<?, ?> || get(usage, "total_tokens") != null || accessor(usage, "cacheWriteInputTokens") != null;
    }

    /** Tokens that are counted beside those of the cache. A later piece may repeat some of the three. */
    private void separate(Object usage, String fresh, String read, String written) {
        long beside = get(usage, fresh) == null ? input - cached - cacheWritten : count(usage, fresh);
        cached = get(usage, read) == null ? cached : count(usage, read);
        cacheWritten = get(usage, written) == null ? cacheWritten : count(usage, written);
        input = beside + cached + cacheWritten;
    }

    private static Object parsed(Object piece) {
        String text = piece instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : piece.toString();
        text = text.strip();
        if (text.startsWith("data:")) {
            text = text.substring(5).strip();
        }
        try {
            return text.startsWith("{") ? Json.read(text) : null;
        } catch (IllegalArgumentException error) {
            return null;
        }
    }

    private static String text(Object value) {
        if (value instanceof String text) {
            return text;
        }
        // A name in a vendor's own enumeration, or in a union of several (OpenAI's Response).
        for (Object each : new Object[] {value, get(value, "chat"), get(value, "only")}) {
            if (get(each, "as_string") instanceof String text) {
                return text;
            }
        }
        return null;
    }

    private static long count(Object thing, String... names) {
        Object value = get(thing, names);
        if (value instanceof BigDecimal exact) {
            return exact.signum() > 0 && exact.precision() - exact.scale() < 19 ? exact.longValue() : 0;
        }
        return value instanceof Long || value instanceof Integer ? Math.max(((Number) value).longValue(), 0) : 0;
    }

    /** A member, and a member of that; null where there is none. */
    private static Object get(Object thing, String... names) {
        Object found = thing;
        for (String name : names) {
            if (found == null || found instanceof CharSequence || found instanceof Number) {
                return null;
            }
            found = found instanceof Map<?, ?> map ? map.get(name) : call(found, name);
            if (found instanceof Optional<?> optional) {
                found = optional.orElse(null);
            }
        }
        return found;
    }

    private static Object call(Object thing, String name) {
        Method method = accessor(thing, name);
        try {
            return method == null ? null : method.invoke(thing);
        } catch (InvocationTargetException | IllegalAccessException error) {
            return null; // a union that is of another kind
        }
    }

    /** The method of a member: {@code prompt_tokens} is promptTokens() or getPromptTokens(). */
    private static Method accessor(Object thing, String name) {
        return ACCESSORS.get(thing.getClass()).computeIfAbsent(name, wanted -> {
            StringBuilder camel = new StringBuilder();
            for (String word : wanted.split("_")) {
                camel.append(camel.isEmpty() ? Character.toLowerCase(word.charAt(0)) : Character.toUpperCase(word.charAt(0)))
                    .append(word, 1, word.length());
            }
            String rest = Character.toUpperCase(camel.charAt(0)) + camel.substring(1);
            for (String candidate : new String[] {camel.toString(), "get" + rest}) {
                try {
                    Method method = thing.getClass().getMethod(candidate);
                    if (!Modifier.isStatic(method.getModifiers()) && method.getReturnType() != void.class
                        && (Modifier.isPublic(thing.getClass().getModifiers()) || method.trySetAccessible())) {
                        return Optional.of(method);
                    }
                } catch (NoSuchMethodException none) {
                    // the next
                }
            }
            return Optional.empty();
        }).orElse(null);
    }

    /** @return openai, anthropic or bedrock; empty while nothing was found */
    public String provider() {
        return provider;
    }

    /** @return the model's name */
    public String model() {
        return model;
    }

    /** @return the answer's own id; empty where it has none */
    public String responseId() {
        return responseId;
    }

    /** @return whether there was any usage to read: an OpenAI stream has it only with stream_options.include_usage */
    public boolean found() {
        return found;
    }

    /** @return the tokens as {@code data} of an event */
    public Map<String, Object> data() {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("provider", provider);
        data.put("model", model);
        data.put("input_tokens", input);
        data.put("cached_input_tokens", cached);
        data.put("cache_write_tokens", cacheWritten);
        data.put("output_tokens", output);
        data.put("reasoning_tokens", reasoning);
        data.put("total_tokens", input + output);
        return data;
    }
}
