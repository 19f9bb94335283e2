package io.tallystick;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Shapes of JSON are held by tests/sdk/conformance/llm.json; here are those of Java libraries, and ways to stream. */
class LlmTest {
    // As the vendors' libraries name their accessors: OpenAI's and Anthropic's with Optional, Amazon's with boxes.
    record PromptDetails(Optional<Long> cachedTokens) {
    }

    record CompletionUsage(long promptTokens, long completionTokens, Optional<PromptDetails> promptTokensDetails) {
    }

    record ChatCompletion(String id, String model, Optional<CompletionUsage> usage) {
    }

    record ResponseDetails(long cachedTokens) {
    }

    record ResponseUsage(long inputTokens, ResponseDetails inputTokensDetails, long outputTokens, long totalTokens) {
    }

    record AnyModel(Optional<Model> chat) {
        public String asString() {
            throw new IllegalStateException("It is another kind of model.");
        }
    }

    record Response(String id, AnyModel model, Optional<ResponseUsage> usage) {
    }

    record Model(String asString) {
    }

    record MessageUsage(long inputTokens, Optional<Long> cacheReadInputTokens, Optional<Long> cacheCreationInputTokens,
                        long outputTokens) {
    }

    record Message(String id, Model model, MessageUsage usage) {
    }

    record MessageStart(Message message) {
    }

    record DeltaUsage(long outputTokens, Optional<Long> inputTokens) {
    }

    record MessageDelta(DeltaUsage usage) {
    }

    record StreamEvent(Optional<MessageStart> messageStart, Optional<MessageDelta> messageDelta) {
    }

    record TokenUsage(Integer inputTokens, Integer outputTokens, Integer totalTokens, Integer cacheReadInputTokens,
                      Integer cacheWriteInputTokens) {
    }

    record ResponseMetadata(String requestId) {
    }

    record ConverseResponse(TokenUsage usage, ResponseMetadata responseMetadata) {
    }

    private static Map<String, Object> data(String provider, String model, int cached, int written) {
        return Map.of("provider", provider, "model", model, "input_tokens", 100L, "cached_input_tokens", (long) cached,
            "cache_write_tokens", (long) written, "output_tokens", 40L, "reasoning_tokens", 0L, "total_tokens", 140L);
    }

    @Test
    void objectsOfTheVendorsLibraries() {
        LlmTokens openai = new LlmTokens("").add(new ChatCompletion("c", "gpt-5",
            Optional.of(new CompletionUsage(100, 40, Optional.of(new PromptDetails(Optional.of(60L)))))));
        assertEquals(data("openai", "gpt-5", 60, 0), openai.data());
        LlmTokens responses = new LlmTokens("").add(
            new Response("r", new AnyModel(Optional.of(new Model("gpt-5"))), Optional.of(new ResponseUsage(100, new ResponseDetails(60), 40, 140))));
        assertEquals(data("openai", "gpt-5", 60, 0), responses.data());
        LlmTokens bedrock = new LlmTokens("nova").add(
            new ConverseResponse(new TokenUsage(40, 40, 140, 50, 10), new ResponseMetadata("q")));
        assertEquals(data("bedrock", "nova", 50, 10), bedrock.data());
        assertEquals("q", bedrock.responseId());
        Message message = new Message("m", new Model("claude"), new MessageUsage(40, Optional.of(50L), Optional.of(10L), 1));
        LlmTokens anthropic = new LlmTokens("")
            .add(new StreamEvent(Optional.of(new MessageStart(message)), Optional.empty()))
            .add(new StreamEvent(Optional.empty(), Optional.of(new MessageDelta(new DeltaUsage(20, Optional.empty())))))
            .add(new StreamEvent(Optional.empty(), Optional.of(new MessageDelta(new DeltaUsage(40, Optional.of(40L))))));
        assertEquals(data("anthropic", "claude", 50, 10), anthropic.data());
        assertEquals("m", anthropic.responseId());
        assertTrue(!new LlmTokens("").add("data: [DONE]").add(null).add(new ChatCompletion("c", "m", Optional.empty())).found());
    }

    @Test
    void aStreamIsCountedOnceAtItsEnd() throws IOException {
        List<String> lines = List.of("event: message_start",
            "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\",\"usage\":{\"input_tokens\":100,"
                + "\"output_tokens\":1}}}", "", "data: {broken",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":40}}", "data: {\"type\":\"message_stop\"}");
        try (Sink sink = new Sink(); Client client = Client.open(sink.options().build())) {
            Llm llm = Llm.of(client, "acme").data(Map.of("feature", "chat")).eventType("tokens");
            try (Stream<String> pieces = llm.stream(lines.stream())) {
                assertEquals(lines, pieces.toList());
            }
            boolean[] closed = new boolean[1];
            try (Stream<String> pieces = llm.stream(lines.stream().map(line -> line.replace("\"m\"", "\"m2\""))
                .onClose(() -> closed[0] = true))) {
                assertTrue(pieces.skip(1).findFirst().orElseThrow().contains("m2")); // and no further
            }
            assertTrue(closed[0]);
            assertTrue(client.flush(Duration.ofSeconds(20)));
            List<Map<String, Object>> events = sink.seen.stream().flatMap(seen -> seen.body().lines())
                .map(line -> Json.object(Json.read(line))).toList();
            assertEquals(List.of("m", "m2"), events.stream().map(event -> event.get("id")).toList());
            assertEquals("llm/anthropic", events.get(0).get("source"));
            assertEquals("tokens", events.get(0).get("type"));
            Map<String, Object> data = Json.object(events.get(0).get("data"));
            assertEquals("chat 100 40", data.get("feature") + " " + data.get("input_tokens") + " " + data.get("output_tokens"));
        }
    }
}
