package io.tallystick.servlet;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.tallystick.Client;
import io.tallystick.Json;
import io.tallystick.Options;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The filter in a real container. */
class UsageFilterTest {
    @TempDir
    Path directory;

    private static final class Application extends HttpServlet {
        private static final long serialVersionUID = 1L;

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            response.setStatus(201);
            switch (request.getPathInfo()) {
                case "/stream" -> response.getOutputStream().write(new byte[100]);
                case "/writer" -> {
                    response.setContentType("text/plain;charset=UTF-8");
                    response.getWriter().print("aé漢");
                }
                case "/async" -> {
                    AsyncContext context = request.startAsync();
                    context.start(() -> {
                        try {
                            response.getWriter().print("later");
                        } catch (IOException error) {
                            throw new IllegalStateException(error);
                        }
                        context.complete();
                    });
                }
                case "/fails" -> throw new IllegalStateException("as it happens");
                case "/twice" -> {
                    response.getWriter().print("forgotten");
                    response.reset();
                    response.sendError(404);
                }
                default -> response.setStatus(204);
            }
        }
    }

    @Test
    void requestsAreCountedWhenTheyAreOver() throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(directory.toString());
        tomcat.setSilent(true);
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("/app", null);
        Tomcat.addServlet(context, "application", new Application()).setAsyncSupported(true);
        context.addServletMappingDecoded("/*", "application");
        // Nobody listens there: what was tracked waits in the spool, and is read from its files.
        try (Client client = Client.open(Options.builder().url("http://127.0.0.1:9").spool(directory.resolve("spool"))
            .closeWaitMax(Duration.ZERO).build())) {
            FilterDef definition = new FilterDef();
            definition.setFilterName("usage");
            definition.setAsyncSupported("true");
            definition.setFilter(new UsageFilter(client, request -> {
                if ("oops".equals(request.getHeader("user"))) {
                    throw new IllegalStateException("Nobody knows the user.");
                }
                return request.getHeader("user");
            }, request -> Map.of("more", 1), "request"));
            context.addFilterDef(definition);
            FilterMap map = new FilterMap();
            map.setFilterName("usage");
            map.addURLPattern("/*");
            context.addFilterMap(map);
            tomcat.start();
            HttpClient http = HttpClient.newHttpClient();
            String base = "http://127.0.0.1:" + tomcat.getConnector().getLocalPort() + "/app";
            for (String path : List.of("/stream", "/writer", "/async", "/fails", "/twice", "/empty")) {
                get(http, base + path, "acme");
            }
            assertEquals(201, get(http, base + "/stream", null));
            assertEquals(201, get(http, base + "/stream", "oops"));
            tomcat.stop();
            tomcat.destroy();
            assertEquals(6, client.stats().tracked());
        }
        List<String> lines = java.nio.file.Files.list(directory.resolve("spool"))
            .filter(path -> path.toString().endsWith(".events")).flatMap(UsageFilterTest::lines).sorted().toList();
        assertEquals(List.of("/app/async 201 5", "/app/empty 204 0", "/app/fails 500 0", "/app/stream 201 100", "/app/twice 404 0",
            "/app/writer 201 6"), lines);
    }

    private static java.util.stream.Stream<String> lines(Path file) {
        try {
            return java.nio.file.Files.readAllLines(file).stream().map(line -> {
                Map<?, ?> data = (Map<?, ?>) ((Map<?, ?>) Json.read(line.substring(9))).get("data");
                return data.get("path") + " " + data.get("status") + " " + data.get("response_bytes");
            });
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static int get(HttpClient http, String address, String user) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address));
        if (user != null) {
            request.header("user", user);
        }
        return http.send(request.build(), HttpResponse.BodyHandlers.discarding()).statusCode();
    }
}
