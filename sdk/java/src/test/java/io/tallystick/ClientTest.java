package io.tallystick;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ClientTest {
    private static final Duration LONG = Duration.ofSeconds(20);

    @TempDir
    Path directory;
    private Sink sink;

    @BeforeEach
    void start() throws IOException {
        sink = new Sink();
    }

    @AfterEach
    void end() {
        sink.close();
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void everyFaultBetween(boolean onDisk) {
        sink.script.addAll(List.of("503", "429 0", "lose", "page", "half", "408", "500", "401", "404", "301"));
        sink.eventsMax = 300; // of those that are left, each batch is too large at first
        Set<String> ids = new HashSet<>();
        Options.Builder options = sink.options().timeout(Duration.ofMillis(300)).batch(400, 1 << 20);
        try (Client client = Client.open(onDisk ? options.spool(directory).build() : options.build())) {
            for (int n = 0; n < 2_000; n++) {
                ids.add(client.track("call", "acme", Map.of("n", n)));
            }
            assertTrue(client.flush(LONG), client.stats().toString());
            Stats stats = client.stats();
            assertEquals(2_000, stats.accepted());
            assertEquals(List.of(2_000L, 0L, 0L, 0L), List.of(stats.tracked(), stats.rejected(), stats.dropped(), stats.waiting()));
            assertTrue(stats.failures() >= 8, stats.toString());
        }
        assertEquals(ids, sink.taken.keySet());
    }

    @Test
    void retryAfterIsWaitedFor() {
        sink.script.add("429 1");
        try (Client client = Client.open(sink.options().build())) {
            client.track("call", "acme", null);
            assertTrue(client.flush(LONG));
        }
        assertTrue(sink.seen.get(1).atNanos() - sink.seen.get(0).atNanos() >= 1_000_000_000L);
        Instant now = Instant.parse("2026-01-01T00:00:00Z");
        assertEquals(Duration.ofSeconds(30), Answer.retryAfter(java.util.Optional.of("Thu, 1 Jan 2026 00:00:30 GMT"), now));
        assertEquals(Duration.ZERO, Answer.retryAfter(java.util.Optional.of("Thu, 1 Jan 2015 00:00:30 GMT"), now));
        assertEquals(Duration.ofHours(1), Answer.retryAfter(java.util.Optional.of("99999999"), now));
        assertEquals(null, Answer.retryAfter(java.util.Optional.of("soon"), now));
        assertEquals(null, Answer.retryAfter(java.util.Optional.empty(), now));
    }

    @Test
    void eachEventIsToldOnce() {
        List<EventResult> told = Collections.synchronizedList(new ArrayList<>());
        sink.rejected = "bad";
        Options options = sink.options().batch(10, 1 << 20).onResult(result -> {
            told.add(result);
            throw new IllegalStateException("A listener that fails ends nothing.");
        }).build();
        try (Client client = Client.open(options)) {
            for (int n = 0; n < 45; n++) {
                client.track(Event.of("call", n % 3 == 0 || n >= 30 ? "bad" : "good").id("e" + n).source("s").build());
            }
            assertTrue(client.flush(LONG));
            assertEquals(25, client.stats().rejected());
        }
        assertEquals(45, told.size());
        Map<String, EventResult> byId = told.stream().collect(Collectors.toMap(EventResult::id, result -> result));
        assertEquals(new EventResult("e44", "s", false, "no", "never", byId.get("e44").event()), byId.get("e44"));
        assertTrue(byId.get("e1").accepted());
    }

    @ParameterizedTest
    @ValueSource(strings = {"413", "422", "400"})
    void oneEventThatCannotBeTakenDoesNotHoldTheOthers(String status) {
        List<EventResult> told = Collections.synchronizedList(new ArrayList<>());
        sink.script.addAll(List.of(status, status, status)); // of 4, of 2, of 1
        try (Client client = Client.open(sink.options().flushInterval(LONG).onResult(told::add).build())) {
            for (int n = 0; n < 4; n++) {
                client.track(Event.of("call", "acme").id("e" + n).build());
            }
            assertTrue(client.flush(LONG));
        }
        assertEquals(List.of("e0:told", "e1:null", "e2:null", "e3:null"), told.stream().map(r -> r.id() + ":" + r.code()).toList());
        assertEquals(Set.of("e1", "e2", "e3"), sink.taken.keySet());
    }

    @Test
    void whatAKilledProcessLeftIsSentByTheNext() {
        Options.Builder options = sink.options().spool(directory).syncInterval(Duration.ZERO);
        Client first = Client.open(options.url("http://127.0.0.1:9").build());
        List<String> ids = new ArrayList<>();
        for (int n = 0; n < 100; n++) {
            ids.add(first.track("call", "acme", Map.of("n", n)));
        }
        assertFalse(first.flush(Duration.ofMillis(50)));
        assertFalse(first.close(Duration.ZERO));
        assertThrows(SpoolFullException.class, () -> first.track("call", "acme", null));
        try (Client second = Client.open(options.url(sink.url()).build())) {
            assertEquals(100, second.stats().waiting());
            assertTrue(second.flush(LONG));
            assertEquals(0, second.stats().tracked());
        }
        assertEquals(new HashSet<>(ids), sink.taken.keySet());
    }

    @Test
    void whenThereIsNoRoom() {
        Options.Builder options = sink.options().url("http://127.0.0.1:9").spoolBytesMax(1_000);
        try (Client client = Client.open(options.onFull(Options.OnFull.DROP).closeWaitMax(Duration.ZERO).build())) {
            for (int n = 0; n < 50; n++) {
                client.track("call", "acme", Map.of("n", n));
            }
            Stats stats = client.stats();
            assertTrue(stats.dropped() > 30 && stats.dropped() + stats.tracked() == 50 && stats.waiting() == stats.tracked());
        }
        try (Client client = Client.open(options.onFull(Options.OnFull.REJECT).build())) {
            assertThrows(SpoolFullException.class, () -> {
                for (int n = 0; n < 50; n++) {
                    client.track("call", "acme", Map.of("n", n));
                }
            });
        }
        sink.script.addAll(Collections.nCopies(5, "503"));
        try (Client client = Client.open(options.onFull(Options.OnFull.WAIT).url(sink.url()).closeWaitMax(LONG).build())) {
            for (int n = 0; n < 50; n++) {
                client.track("call", "acme", Map.of("n", n));
            }
        }
        assertEquals(50, sink.taken.size());
    }

    /** A container interrupts its threads; a channel of java.nio would be closed by it, and the spool lost. */
    @Test
    void anInterruptedThreadTracks() {
        try (Client client = Client.open(sink.options().spool(directory).build())) {
            Thread.currentThread().interrupt();
            client.track("call", "acme", null);
            assertTrue(Thread.interrupted());
            client.track("call", "acme", null);
            assertTrue(client.flush(LONG));
        }
        assertEquals(2, sink.taken.size());
    }

    @Test
    void manyThreads() throws InterruptedException {
        Set<String> ids = Collections.synchronizedSet(new HashSet<>());
        try (Client client = Client.open(sink.options().spool(directory).segmentBytes(20_000).batch(200, 50_000).build())) {
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 8; t++) {
                Thread thread = new Thread(() -> {
                    for (int n = 0; n < 500; n++) {
                        ids.add(client.track("call", "acme", Map.of("n", n)));
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
        }
        assertEquals(4_000, ids.size());
        assertEquals(ids, sink.taken.keySet());
    }

    @Test
    void anEventIsWrittenExactly() {
        Event event = Event.of("call", "acmé \"x\"").id("i").source("s").time(Instant.parse("2026-01-01T00:00:00.123456Z"))
            .data("n", new BigDecimal("0.100000000000000000001")).data(Map.of("b", 1)).build();
        assertEquals("{\"id\":\"i\",\"source\":\"s\",\"type\":\"call\",\"subject\":\"acmé \\\"x\\\"\","
            + "\"time\":\"2026-01-01T00:00:00.123456Z\",\"data\":{\"n\":0.100000000000000000001,\"b\":1}}",
            new String(event.line("/"), java.nio.charset.StandardCharsets.UTF_8));
        String wrong = assertThrows(InvalidEventException.class, () -> Event.of("", "x".repeat(257)).id("").build()).getMessage();
        assertEquals("type is empty, subject is longer than 256 characters, id is empty.", wrong);
        try (Client client = Client.open(sink.options().build())) {
            assertThrows(InvalidEventException.class, () -> client.track("call", "acme", Map.of("n", new Object())));
            assertThrows(InvalidEventException.class, () -> client.track("call", "acme", Map.of("n", "x".repeat(1 << 20))));
        }
    }

    @Test
    void questions() {
        sink.answer = "{\"meter\":\"a/b\",\"position\":\"p\",\"rows\":[{\"window_start\":\"2026-01-01T00:00:00Z\","
            + "\"window_end\":\"2026-01-02T00:00:00Z\",\"group\":{\"model\":null},\"value\":\"1.000000000000000001\"}]}";
        try (Client client = Client.open(sink.options().build())) {
            sink.script.addAll(List.of("503", "lose"));
            Usage usage = client.usage(UsageQuery.of("a/b").window("day").groupBy("model").customers("x")
                .filter("model", "m").filter("region", Map.of("ne", "eu")).from(Instant.EPOCH).minPosition("p"));
            assertEquals(new BigDecimal("1.000000000000000001"), usage.rows().get(0).value());
            assertEquals(Collections.singletonMap("model", null), usage.rows().get(0).group());
            assertEquals("/v1/meters/a%2Fb/usage", sink.seen.get(0).path());
            assertEquals("{\"window\":\"day\",\"group_by\":[\"model\"],\"customer\":[\"x\"],\"filter\":{\"model\":{\"in\":[\"m\"]},"
                + "\"region\":{\"ne\":\"eu\"}},\"from\":\"1970-01-01T00:00:00Z\",\"min_position\":\"p\"}", sink.seen.get(0).body());
            assertEquals(3, sink.seen.size());

            sink.answer = "{\"id\":\"r 1\",\"allowed\":true}";
            sink.script.addAll(List.of("503", "lose"));
            try (Reservation held = client.reserve("acme", "tokens", 1_000)) {
                assertEquals("r 1", held.id());
                held.settle(new BigDecimal("1E+2"));
            }
            assertEquals(7, sink.seen.size(), "What is settled is not released.");
            String key = sink.seen.get(3).idempotencyKey();
            assertNotNull(key);
            assertEquals(List.of(key, key), List.of(sink.seen.get(4).idempotencyKey(), sink.seen.get(5).idempotencyKey()));
            assertEquals("/v1/reservations/r%201/settle", sink.seen.get(6).path());
            assertTrue(sink.seen.get(6).body().contains("\"amount\":\"100\""));
            client.reserve("acme", "tokens", 1).close();
            assertEquals("/v1/reservations/r%201/release", sink.seen.get(8).path());

            sink.script.addAll(List.of("409", "503", "503", "503", "page", "page", "301"));
            ProblemException refused = assertThrows(ProblemException.class, () -> client.check("acme", "tokens", 1));
            assertEquals(List.of(409, "told", "why"), List.of(refused.status(), refused.code(), refused.detail()));
            assertEquals(503, assertThrows(ProblemException.class, () -> client.check("acme", "tokens", 1)).status());
            assertThrows(UnreachableException.class, () -> client.check("acme", "tokens", 1));
        }
    }

    @Test
    void metersAndCustomers() {
        try (Client client = Client.open(sink.options().build())) {
            sink.answer = "{\"key\":\"tokens\",\"event_type\":\"call\",\"aggregation\":\"sum\",\"more\":1}";
            Meter meter = client.meters().create(
                Meter.of("tokens", "call", "sum").value("$.n").dimension("model", "$.model").unit("token").build());
            assertEquals("{\"key\":\"tokens\",\"name\":\"tokens\",\"event_type\":\"call\",\"aggregation\":\"sum\",\"value\":\"$.n\","
                + "\"unit\":\"token\",\"dimensions\":{\"model\":\"$.model\"}}", sink.seen.get(0).body());
            assertEquals(List.of("tokens", "call", "sum"), List.of(meter.key(), meter.eventType(), meter.aggregation()));
            client.meters().update("tokens", Map.of("name", "T"));
            assertEquals("PATCH", sink.seen.get(1).method());
            client.meters().archive("tokens");
            assertEquals("DELETE", sink.seen.get(2).method());

            sink.answer = "{\"items\":[{\"key\":\"a\",\"name\":\"A\",\"subjects\":[\"s\"]}],\"next_cursor\":\"c d\"}";
            List<Customer> found = client.customers().all().limit(3).toList();
            assertEquals(List.of("s"), found.get(2).subjects());
            assertTrue(sink.seen.stream().anyMatch(seen -> seen.path().contains("cursor=c%20d")));
        }
    }

    @Test
    void optionsOutOfRangeAreAllNamed() {
        String wrong = assertThrows(TallystickException.class,
            () -> Options.builder().url("").batch(0, -1).timeout(Duration.ZERO).source("").build()).getMessage();
        for (String name : List.of("url", "batch events", "batch bytes", "timeout", "source")) {
            assertTrue(wrong.contains(name), wrong);
        }
        for (String url : List.of("meter.example.com", "ftp://x", "http://", "http://x?y", "http://u:p@x", "not a url")) {
            assertThrows(TallystickException.class, () -> Client.open(url, "key"));
        }
    }
}
