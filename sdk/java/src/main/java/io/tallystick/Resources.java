package io.tallystick;

import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;
import java.util.stream.Stream;

/**
 * Things of one kind that are addressed by a key: meters, customers.
 *
 * @param <T> the kind
 */
public final class Resources<T extends Resources.Definition> {
    /** What can be created: it knows its document. */
    public interface Definition {
        /** @return the contract's document */
        Map<String, Object> document();
    }

    private static final int PAGE_ITEMS = 200;

    private final Client client;
    private final String path;
    private final Function<Map<String, Object>, T> reader;

    Resources(Client client, String path, Function<Map<String, Object>, T> reader) {
        this.client = client;
        this.path = path;
        this.reader = reader;
    }

    private T read(Object document) {
        return reader.apply(Json.object(document));
    }

    private String at(String key) {
        return path + "/" + Questions.segment(key);
    }

    /**
     * Make one.
     *
     * @param definition what it is
     * @return as the server has it
     * @throws ProblemException when the server refuses
     */
    public T create(T definition) {
        return create(definition.document());
    }

    /**
     * Make one from the contract's document.
     *
     * @param definition the document
     * @return as the server has it
     * @throws ProblemException when the server refuses
     */
    public T create(Map<String, ?> definition) {
        return read(client.request("POST", path, Map.of(), definition));
    }

    /**
     * One of them.
     *
     * @param key its key
     * @return it
     * @throws ProblemException with status 404 when there is none
     */
    public T get(String key) {
        return read(client.request("GET", at(key), Map.of(), null));
    }

    /**
     * Change one.
     *
     * @param key     its key
     * @param changes the members that change
     * @return as it is then
     * @throws ProblemException when the server refuses
     */
    public T update(String key, Map<String, ?> changes) {
        return read(client.request("PATCH", at(key), Map.of(), changes));
    }

    /**
     * Archive one: its history stays.
     *
     * @param key its key
     * @throws ProblemException when the server refuses
     */
    public void archive(String key) {
        client.request("DELETE", at(key), Map.of(), null);
    }

    /**
     * A piece of the list.
     *
     * @param limit  at most so many, 1 to 1000
     * @param cursor where the piece before ended; null: the first
     * @return the piece
     */
    public Page<T> page(int limit, String cursor) {
        Map<String, Object> parameters = new HashMap<>();
        parameters.put("limit", limit);
        parameters.put("cursor", cursor);
        Map<String, Object> found = Json.object(client.request("GET", path, parameters, null));
        return new Page<>(Json.list(found, "items").stream().map(this::read).toList(), Json.text(found, "next_cursor"));
    }

    /** @return all of them, asked for as they are read */
    public Stream<T> all() {
        return Stream.iterate(page(PAGE_ITEMS, null), Objects::nonNull,
                page -> page.nextCursor() == null ? null : page(PAGE_ITEMS, page.nextCursor()))
            .flatMap(page -> page.items().stream());
    }
}
