package io.tallystick;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.zip.GZIPInputStream;

/** A server that takes events in every bad way, and remembers each by its id. */
final class Sink implements AutoCloseable {
    record Seen(String method, String path, String body, String idempotencyKey, long atNanos) {
    }

    /** What happens to the next requests: a status, {@code lose}, {@code half}, {@code page}; then all is taken. */
    final ArrayDeque<String> script = new ArrayDeque<>();
    final Map<String, String> taken = new ConcurrentHashMap<>();
    final List<Seen> seen = Collections.synchronizedList(new ArrayList<>());
    volatile int eventsMax = 1_000_000;
    volatile String rejected = "";
    volatile String answer = "{}";
    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool();

    Sink() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(threads);
        server.createContext("/", this::handle);
        server.start();
    }

    String url() {
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    Options.Builder options() {
        return Options.builder().url(url()).key("key").flushInterval(java.time.Duration.ofMillis(10))
            .retry(java.time.Duration.ofMillis(5), java.time.Duration.ofMillis(20)).closeAtExit(false);
    }

    private void handle(HttpExchange exchange) throws IOException {
        boolean packed = "gzip".equals(exchange.getRequestHeaders().getFirst("content-encoding"));
        byte[] bytes = (packed ? new GZIPInputStream(exchange.getRequestBody()) : exchange.getRequestBody()).readAllBytes();
        String body = new String(bytes, StandardCharsets.UTF_8);
        seen.add(new Seen(exchange.getRequestMethod(), exchange.getRequestURI().toString(), body,
            exchange.getRequestHeaders().getFirst("idempotency-key"), System.nanoTime()));
        String step;
        synchronized (script) {
            step = script.isEmpty() ? "" : script.removeFirst();
        }
        if (!"Bearer key".equals(exchange.getRequestHeaders().getFirst("authorization"))) {
            step = "401";
        }
        boolean events = exchange.getRequestURI().getPath().equals("/v1/events");
        if (step.startsWith("429 ")) {
            exchange.getResponseHeaders().set("Retry-After", step.substring(4));
            reply(exchange, 429, "");
        } else if (step.matches("[0-9]+")) {
            reply(exchange, Integer.parseInt(step), "{\"code\":\"told\",\"detail\":\"why\"}");
        } else if (step.equals("page")) {
            reply(exchange, 200, "<html>Welcome</html>");
        } else if (events && body.lines().count() > eventsMax) {
            reply(exchange, 413, "");
        } else {
            String whole = events ? take(body) : answer;
            if (step.equals("lose")) {
                reply(exchange, 500, "<html>");
            } else if (step.equals("half")) { // the head and no more, and the connection stays
                exchange.sendResponseHeaders(202, whole.length());
                exchange.getResponseBody().write('{');
                exchange.getResponseBody().flush();
            } else {
                boolean none = events && whole.startsWith("{\"accepted\":0");
                reply(exchange, none ? 422 : events ? 202 : 200, whole);
            }
        }
    }

    private String take(String body) {
        List<Object> results = new ArrayList<>();
        int accepted = 0;
        for (String line : body.lines().toList()) {
            Map<String, Object> event = Json.object(Json.read(line));
            String id = (String) event.get("id");
            if (rejected.equals(event.get("subject"))) {
                results.add(Map.of("index", accepted + results.size(), "id", id, "status", "rejected", "code", "no", "detail", "never"));
                continue;
            }
            accepted++;
            String before = taken.put(id, line);
            if (before != null && !before.equals(line)) {
                throw new AssertionError("The same id with another content.");
            }
        }
        Map<String, Object> answered = new LinkedHashMap<>();
        answered.put("accepted", accepted);
        answered.put("results", results);
        return Json.write(answered);
    }

    private static void reply(HttpExchange exchange, int status, String text) throws IOException {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    @Override
    public void close() {
        server.stop(0);
        threads.shutdownNow();
    }
}
