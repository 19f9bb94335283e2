package io.tallystick;

import java.util.List;

/**
 * A piece of a list.
 *
 * @param items      what it holds
 * @param nextCursor asks for the next piece; null: this is the last
 * @param <T>        of what
 */
public record Page<T>(List<T> items, String nextCursor) {
}
