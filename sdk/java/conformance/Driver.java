import io.tallystick.Check;
import io.tallystick.Client;
import io.tallystick.Customer;
import io.tallystick.Event;
import io.tallystick.EventResult;
import io.tallystick.InvalidEventException;
import io.tallystick.Json;
import io.tallystick.Llm;
import io.tallystick.Meter;
import io.tallystick.Options;
import io.tallystick.ProblemException;
import io.tallystick.Reservation;
import io.tallystick.SpoolFullException;
import io.tallystick.Stats;
import io.tallystick.UnreachableException;
import io.tallystick.Usage;
import io.tallystick.UsageQuery;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** The Java SDK's driver for the conformance suite: see sdk/CONFORMANCE.md. */
public final class Driver {
    private Client client;
    private List<Map<String, Object>> rejections = Collections.synchronizedList(new ArrayList<>());

    private Driver() {
    }

    /** Until the end of standard input; the client is not closed then. */
    public static void main(String[] arguments) throws IOException {
        Driver driver = new Driver();
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(Json.write(driver.answer(line)));
            out.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private Map<String, Object> answer(String line) {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            answer.putAll(act(object(Json.read(line))));
            answer.put("ok", true);
        } catch (RuntimeException | InterruptedException error) {
            answer.put("ok", false);
            answer.put("kind", kind(error));
            answer.put("detail", error.toString());
            if (error instanceof ProblemException problem) {
                answer.put("status", problem.status());
                answer.put("code", problem.code());
            }
        }
        return answer;
    }

    private static String kind(Exception error) {
        return error instanceof ProblemException ? "problem"
            : error instanceof UnreachableException ? "unreachable"
            : error instanceof InvalidEventException ? "invalid_event"
            : error instanceof SpoolFullException ? "spool_full" : "other";
    }

    private Map<String, Object> act(Map<String, Object> command) throws InterruptedException {
        switch ((String) command.get("op")) {
            case "configure" -> configure(command);
            case "track" -> {
                return Map.of("id", client.track(event(command)));
            }
            case "track_many" -> {
                return trackMany(command);
            }
            case "llm" -> {
                Llm llm = Llm.of(client, text(command, "subject")).model(text(command, "model", ""));
                Llm.Tracker tracker = llm.begin();
                list(command, "pieces").forEach(tracker::add);
                tracker.close();
                return Collections.singletonMap("id", tracker.id().orElse(null));
            }
            case "flush" -> {
                return Map.of("complete", client.flush(millis(command, "timeout_ms")));
            }
            case "close" -> {
                return Map.of("complete", client.close(millis(command, "timeout_ms")));
            }
            case "stats" -> {
                Stats stats = client.stats();
                return Map.of("tracked", stats.tracked(), "accepted", stats.accepted(), "rejected", stats.rejected(),
                    "waiting", stats.waiting());
            }
            case "rejections" -> {
                return Map.of("rejections", List.copyOf(rejections));
            }
            case "send" -> {
                return client.sendDocuments(list(command, "events").stream().map(Driver::object).toList(),
                    Boolean.TRUE.equals(command.get("wait_recorded")));
            }
            case "usage" -> {
                UsageQuery query = UsageQuery.of(text(command, "meter"));
                for (Map.Entry<String, Object> each : object(command.get("parameters")).entrySet()) {
                    query = query.with(each.getKey(), each.getValue());
                }
                return Map.of("rows", client.usage(query).rows().stream().map(Driver::row).toList());
            }
            case "check" -> {
                return checked(client.check(text(command, "customer"), text(command, "meter"), amount(command)));
            }
            case "reserve" -> {
                Reservation held = client.reserve(text(command, "customer"), text(command, "meter"), amount(command),
                    Duration.ofSeconds(((BigDecimal) command.get("ttl_seconds")).longValueExact()));
                return Map.of("reservation", held.id());
            }
            case "settle" -> client.settle(text(command, "reservation"), amount(command), null);
            case "release" -> client.release(text(command, "reservation"));
            case "create_meter" -> {
                return Map.of("key", client.meters().create(new Meter(object(command.get("definition")))).key());
            }
            case "create_customer" -> {
                return Map.of("key", client.customers().create(new Customer(object(command.get("definition")))).key());
            }
            default -> throw new IllegalArgumentException("op: " + command.get("op"));
        }
        return Map.of();
    }

    private void configure(Map<String, Object> command) {
        List<Map<String, Object>> told = Collections.synchronizedList(new ArrayList<>());
        rejections = told;
        client = Client.open(Options.builder()
            .url(text(command, "url"))
            .key(text(command, "key"))
            .spool(Path.of(text(command, "spool")))
            .spoolBytesMax(number(command, "spool_bytes"))
            .segmentBytes((int) number(command, "segment_bytes"))
            .batch((int) number(command, "batch_events"), (int) number(command, "batch_bytes"))
            .flushInterval(millis(command, "flush_ms"))
            .timeout(millis(command, "timeout_ms"))
            .retry(millis(command, "retry_ms_min"), millis(command, "retry_ms_max"))
            .onFull("error".equals(command.get("on_full")) ? Options.OnFull.REJECT : Options.OnFull.WAIT)
            .closeAtExit(false)
            .onResult(result -> {
                if (!result.accepted()) {
                    told.add(rejection(result));
                }
            })
            .build());
    }

    private static Map<String, Object> rejection(EventResult result) {
        return Map.of("id", result.id(), "code", result.code(), "detail", result.detail());
    }

    private static Event event(Map<String, Object> command) {
        Event.Builder event = Event.of(text(command, "type"), text(command, "subject"));
        if (command.get("data") != null) {
            event.data(object(command.get("data")));
        }
        if (command.get("id") != null) {
            event.id(text(command, "id"));
        }
        if (command.get("source") != null) {
            event.source(text(command, "source"));
        }
        if (command.get("time") != null) {
            event.time(OffsetDateTime.parse(text(command, "time")));
        }
        return event.build();
    }

    private Map<String, Object> trackMany(Map<String, Object> command) throws InterruptedException {
        int count = (int) number(command, "count");
        List<String> ids = Collections.synchronizedList(new ArrayList<>());
        AtomicInteger next = new AtomicInteger();
        AtomicInteger refused = new AtomicInteger();
        List<Thread> workers = new ArrayList<>();
        for (int worker = 0; worker < number(command, "workers"); worker++) {
            Thread thread = new Thread(() -> {
                for (int n = next.getAndIncrement(); n < count; n = next.getAndIncrement()) {
                    try {
                        ids.add(client.track(text(command, "type"), text(command, "subject"), Map.of("n", n)));
                    } catch (SpoolFullException full) {
                        refused.incrementAndGet();
                    }
                }
            });
            thread.start();
            workers.add(thread);
        }
        for (Thread thread : workers) {
            thread.join();
        }
        return Map.of("ids", List.copyOf(ids), "refused", refused.get());
    }

    private static Map<String, Object> row(Usage.Row row) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("window_start", row.windowStart());
        answer.put("window_end", row.windowEnd());
        answer.put("group", row.group());
        answer.put("value", plain(row.value()));
        return answer;
    }

    private static Map<String, Object> checked(Check check) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("allowed", check.allowed());
        answer.put("limit", plain(check.limit()));
        answer.put("used", plain(check.used()));
        answer.put("held", plain(check.held()));
        answer.put("remaining", plain(check.remaining()));
        return answer;
    }

    private static String plain(BigDecimal value) {
        return value == null ? null : value.toPlainString();
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> object(Object value) {
        return (Map<String, Object>) value;
    }

    @SuppressWarnings("unchecked")
    private static List<Object> list(Map<String, Object> command, String name) {
        return (List<Object>) command.get(name);
    }

    private static String text(Map<String, Object> command, String name) {
        return text(command, name, null);
    }

    private static String text(Map<String, Object> command, String name, String otherwise) {
        Object value = command.get(name);
        return value == null ? otherwise : value.toString();
    }

    private static long number(Map<String, Object> command, String name) {
        return ((BigDecimal) command.get(name)).longValueExact();
    }

    private static Duration millis(Map<String, Object> command, String name) {
        return Duration.ofMillis(number(command, name));
    }

    private static BigDecimal amount(Map<String, Object> command) {
        return new BigDecimal(text(command, "amount"));
    }
}
