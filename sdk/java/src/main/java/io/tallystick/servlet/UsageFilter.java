package io.tallystick.servlet;

import io.tallystick.Client;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.math.BigDecimal;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Function;

/**
 * Counts the requests of a web application: one event for each, made after the answer, asynchronous answers included.
 * {@code data} has method, path, status, duration_ms and response_bytes. Metering never makes a request fail: what goes wrong
 * is logged. Give the client {@link io.tallystick.Options.OnFull#DROP} where a full spool must not hold a request.
 *
 * <p>For Jakarta Servlet 5 and newer: Spring Boot 3, Tomcat 10, Jetty 11, Undertow. With Spring:
 *
 * <pre>{@code
 * @Bean
 * FilterRegistrationBean<UsageFilter> usage(Client client) {
 *     return new FilterRegistrationBean<>(new UsageFilter(client, request -> request.getRemoteUser()));
 * }
 * }</pre>
 */
public final class UsageFilter implements Filter {
    private static final System.Logger LOG = System.getLogger("io.tallystick");

    private final Client client;
    private final Function<HttpServletRequest, String> subjectOf;
    private final Function<HttpServletRequest, Map<String, ?>> dataOf;
    private final String eventType;

    /**
     * Events of the type {@code http.request}.
     *
     * @param client    takes the events
     * @param subjectOf finds who is to be charged, after the request; null: nobody
     */
    public UsageFilter(Client client, Function<HttpServletRequest, String> subjectOf) {
        this(client, subjectOf, request -> Map.of(), "http.request");
    }

    /**
     * Events with more in them.
     *
     * @param client    takes the events
     * @param subjectOf finds who is to be charged, after the request; null: nobody
     * @param dataOf    adds to {@code data}
     * @param eventType the events' type
     */
    public UsageFilter(Client client, Function<HttpServletRequest, String> subjectOf,
                       Function<HttpServletRequest, Map<String, ?>> dataOf, String eventType) {
        this.client = client;
        this.subjectOf = subjectOf;
        this.dataOf = dataOf;
        this.eventType = eventType;
    }

    @Override
    public void doFilter(ServletRequest anyRequest, ServletResponse anyResponse, FilterChain chain)
        throws IOException, ServletException {
        if (!(anyRequest instanceof HttpServletRequest request) || !(anyResponse instanceof HttpServletResponse response)
            || request.getAttribute(UsageFilter.class.getName()) != null) {
            chain.doFilter(anyRequest, anyResponse); // no HTTP, or the second pass of the same request
            return;
        }
        request.setAttribute(UsageFilter.class.getName(), Boolean.TRUE);
        CountingResponse counted = new CountingResponse(response);
        long started = System.nanoTime();
        boolean failed = true;
        try {
            chain.doFilter(request, counted);
            failed = false;
        } finally {
            if (request.isAsyncStarted()) {
                request.getAsyncContext().addListener(new AtEnd(request, counted, started));
            } else {
                track(request, counted, started, failed);
            }
        }
    }

    private void track(HttpServletRequest request, CountingResponse response, long started, boolean failed) {
        try {
            String subject = subjectOf.apply(request);
            if (subject == null) {
                return;
            }
            Map<String, Object> data = new LinkedHashMap<>();
            data.put("method", request.getMethod());
            data.put("path", request.getRequestURI());
            data.put("status", failed ? HttpServletResponse.SC_INTERNAL_SERVER_ERROR : response.getStatus());
            data.put("duration_ms", BigDecimal.valueOf((System.nanoTime() - started) / 1_000, 3));
            data.put("response_bytes", response.bytes());
            data.putAll(dataOf.apply(request));
            client.track(eventType, subject, data);
        } catch (RuntimeException error) {
            LOG.log(System.Logger.Level.ERROR, "A request was not counted.", error);
        }
    }

    /** Tells of an asynchronous answer when it is over. */
    private final class AtEnd implements AsyncListener {
        private final HttpServletRequest request;
        private final CountingResponse response;
        private final long started;
        private boolean failed;

        AtEnd(HttpServletRequest request, CountingResponse response, long started) {
            this.request = request;
            this.response = response;
            this.started = started;
        }

        @Override
        public void onComplete(AsyncEvent event) {
            track(request, response, started, failed);
        }

        @Override
        public void onTimeout(AsyncEvent event) {
            // The container, or a listener of the application, answers and completes.
        }

        @Override
        public void onError(AsyncEvent event) {
            failed = true;
        }

        @Override
        public void onStartAsync(AsyncEvent event) {
            event.getAsyncContext().addListener(this); // begun anew: listeners are forgotten
        }
    }
}
