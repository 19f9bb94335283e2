package io.tallystick;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Requests to one server. Safe for many threads. Knows nothing of events. */
final class Transport {
    private static final int ANSWER_BYTES_MAX = 64 * 1024 * 1024;

    private final String address;
    private final String key;
    private final Duration timeout;
    private final HttpClient http;

    Transport(Options options) {
        address = address(options.url);
        key = options.key;
        timeout = options.timeout;
        // HTTP/1.1: over plain TCP the client would otherwise offer an upgrade with each connection. No redirects: the key
        // is for this server alone.
        HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER).connectTimeout(timeout);
        http = (options.sslContext == null ? builder : builder.sslContext(options.sslContext)).build();
    }

    private static String address(String url) {
        try {
            URI uri = new URI(url);
            if (uri.getHost() != null && ("http".equals(uri.getScheme()) || "https".equals(uri.getScheme()))
                && uri.getRawQuery() == null && uri.getRawFragment() == null && uri.getRawUserInfo() == null) {
                return url.replaceAll("/+$", "");
            }
        } catch (URISyntaxException error) {
            // said below
        }
        throw new TallystickException("'" + url + "' is not the address of a server; https://host[:port] is.");
    }

    /** Begin a request; {@link #answer} waits for it. */
    CompletableFuture<HttpResponse<byte[]>> start(String method, String path, byte[] body, Map<String, String> headers) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address + path))
            .method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body))
            .header("accept", "application/json").header("user-agent", "tallystick-java/0.1.0");
        if (key != null && !key.isEmpty()) {
            request.header("authorization", "Bearer " + key);
        }
        headers.forEach(request::header);
        return http.sendAsync(request.build(), head -> new Bounded());
    }

    /**
     * The whole answer. The bound is kept here: the request's own timeout of java.net.http ends with the answer's head, and
     * a body that never comes would be waited for.
     */
    Answer answer(CompletableFuture<HttpResponse<byte[]>> started, String what) {
        try {
            HttpResponse<byte[]> found = started.get(timeout.toNanos(), TimeUnit.NANOSECONDS);
            return new Answer(found.statusCode(), found.body(),
                Answer.retryAfter(found.headers().firstValue("retry-after"), Instant.now()));
        } catch (TimeoutException error) {
            started.cancel(true);
            throw new UnreachableException(what + ": no answer within " + timeout.toMillis() + " ms.", error);
        } catch (InterruptedException error) {
            started.cancel(true);
            Thread.currentThread().interrupt();
            throw new UnreachableException(what + ": the thread was interrupted.", error);
        } catch (CancellationException error) {
            throw new UnreachableException(what + ": the client was closed.", error);
        } catch (ExecutionException error) {
            Throwable cause = error.getCause();
            String words = cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage();
            throw new UnreachableException(what + ": " + words, cause);
        }
    }

    Answer request(String method, String path, byte[] body, Map<String, String> headers) {
        return answer(start(method, path, body, headers), method + " " + path);
    }

    /** A body in memory, of bounded size. */
    private static final class Bounded implements HttpResponse.BodySubscriber<byte[]> {
        private final CompletableFuture<byte[]> whole = new CompletableFuture<>();
        private final ByteArrayOutputStream held = new ByteArrayOutputStream();
        private Flow.Subscription subscription;

        @Override
        public CompletionStage<byte[]> getBody() {
            return whole;
        }

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            given.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(List<ByteBuffer> pieces) {
            for (ByteBuffer piece : pieces) {
                if (held.size() + piece.remaining() > ANSWER_BYTES_MAX) {
                    subscription.cancel();
                    whole.completeExceptionally(new IOException("the answer is larger than " + ANSWER_BYTES_MAX + " bytes"));
                    return;
                }
                byte[] bytes = new byte[piece.remaining()];
                piece.get(bytes);
                held.write(bytes, 0, bytes.length);
            }
        }

        @Override
        public void onError(Throwable error) {
            whole.completeExceptionally(error);
        }

        @Override
        public void onComplete() {
            whole.complete(held.toByteArray());
        }
    }
}
