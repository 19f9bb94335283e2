package io.tallystick;

import java.io.IOException;
import java.util.List;

/**
 * Where events wait for the server, in order and bounded. Safe for many threads that append and one that takes.
 * Events are numbered from 1 in the order of this client, those found at the start included.
 */
interface Spool extends AutoCloseable {
    /** The next events, and where they are: for the spool that gave them alone. */
    record Batch(List<byte[]> lines, Object place) {
    }

    /**
     * Keep one event.
     *
     * @return its number; 0 when there is no room
     * @throws SpoolFullException when the disk takes no more, or the spool is closed
     */
    long append(byte[] line);

    /** The oldest events, none when there are none: at least one otherwise, however large. */
    Batch batch(int eventsMax, long bytesMax) throws IOException;

    /** The server has answered for the first {@code count} events of a batch. */
    void acknowledge(Batch batch, int count) throws IOException;

    /** How many events wait. */
    long waiting();

    /** How many bytes of events wait. */
    long waitingBytes();

    /** The number of the newest event. */
    long newest();

    /** All events up to this number are answered for. */
    long answered();

    /** How many lines were found damaged. */
    long damaged();

    /** Have everything appended so far on the disk. */
    void sync() throws IOException;

    @Override
    void close();
}
