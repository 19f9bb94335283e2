package io.tallystick;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.zip.CRC32C;

/**
 * One file of the spool: a line an event, appended at the end, each behind its CRC32C in eight hexadecimal digits and a
 * space. An event's JSON holds no newline, so that behind a torn or lost page the next line is found again.
 *
 * <p>{@link RandomAccessFile} and not a channel: a channel closes itself when a thread that uses it is interrupted, and
 * the threads here are the application's.
 */
final class Segment {
    /** What stands before the event in a line, and the newline after it. */
    static final int FRAME_BYTES = 10;
    private static final int SCAN_BYTES = 256 * 1024;
    private static final int LINE_BYTES_MAX = Event.BYTES_MAX + FRAME_BYTES;
    private static final byte[] DIGITS = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

    final long number;
    final File path;
    /** Bytes of whole lines. */
    long size;
    /** Bytes known to be on the disk. */
    volatile long synced;
    /** The file is gone or closed; what is under way with it ends quietly. */
    volatile boolean ended;
    private final RandomAccessFile file;

    private Segment(long number, File path, RandomAccessFile file, long size) {
        this.number = number;
        this.path = path;
        this.file = file;
        this.size = size;
        this.synced = size;
    }

    static Segment create(File directory, long number) throws IOException {
        File path = new File(directory, name(number));
        if (!path.createNewFile()) {
            throw new IOException(path + " exists.");
        }
        return new Segment(number, path, new RandomAccessFile(path, "rw"), 0);
    }

    static Segment open(File path) throws IOException {
        RandomAccessFile file = new RandomAccessFile(path, "rw");
        return new Segment(Long.parseLong(path.getName().substring(0, 16), 16), path, file, file.length());
    }

    static String name(long number) {
        return String.format("%016x.events", number);
    }

    static boolean isSegment(String name) {
        return name.matches("[0-9a-f]{16}\\.events");
    }

    /** The bytes of one line of the file. */
    static byte[] frame(byte[] event) {
        byte[] line = new byte[event.length + FRAME_BYTES];
        CRC32C sum = new CRC32C();
        sum.update(event);
        int value = (int) sum.getValue();
        for (int digit = 0; digit < 8; digit++) {
            line[digit] = DIGITS[value >>> 28 - 4 * digit & 15];
        }
        line[8] = ' ';
        System.arraycopy(event, 0, line, 9, event.length);
        line[line.length - 1] = '\n';
        return line;
    }

    /** The event in a line (newline excluded); null where it is damaged. */
    private static byte[] event(byte[] bytes, int from, int to) {
        while (from < to && bytes[from] == 0) {
            from++; // a page that never reached the disk reads as zeros
        }
        if (to - from < FRAME_BYTES || bytes[from + 8] != ' ') {
            return null;
        }
        int wanted = 0;
        for (int digit = 0; digit < 8; digit++) {
            int value = Character.digit(bytes[from + digit], 16);
            if (value < 0) {
                return null;
            }
            wanted = wanted << 4 | value;
        }
        CRC32C sum = new CRC32C();
        sum.update(bytes, from + 9, to - from - 9);
        return (int) sum.getValue() == wanted ? Arrays.copyOfRange(bytes, from + 9, to) : null;
    }

    /** Add a whole line at the end. Throws when the disk is full; what it took of the line is not counted, and written over. */
    void append(byte[] line) throws IOException {
        file.seek(size);
        file.write(line);
        size += line.length;
    }

    /** Takes lines in order. */
    interface Visitor {
        /**
         * One line.
         *
         * @param event its event; null: it is damaged
         * @param end   where the next line begins
         * @return whether to go on
         */
        boolean line(byte[] event, long end);
    }

    /** Visit the lines between two places, in bounded memory. */
    void scan(long from, long to, Visitor visitor) throws IOException {
        try (RandomAccessFile reader = new RandomAccessFile(path, "r")) {
            reader.seek(from);
            byte[] bytes = new byte[(int) Math.max(1, Math.min(SCAN_BYTES, to - from))];
            long read = from; // how far the file is read: bytes[held] would be there
            int start = 0; // where the next line begins in bytes
            int held = 0;
            boolean skipping = false;
            for (int at = 0; ; at++) {
                if (at == held) {
                    if (read == to) {
                        break;
                    }
                    if (held - start > LINE_BYTES_MAX) {
                        skipping = true; // longer than any event: what follows the next newline is sound again
                        start = held;
                    }
                    System.arraycopy(bytes, start, bytes, 0, held - start);
                    held -= start;
                    at = held;
                    start = 0;
                    if (held == bytes.length) {
                        bytes = Arrays.copyOf(bytes, held * 2);
                    }
                    int got = reader.read(bytes, held, (int) Math.min(bytes.length - held, to - read));
                    if (got < 0) {
                        throw new EOFException(path + " is shorter than it was.");
                    }
                    held += got;
                    read += got;
                }
                if (bytes[at] == '\n') {
                    if (!skipping && bytes[start] == 0) {
                        visitor.line(null, read - held + start); // what the hole has swallowed
                    }
                    byte[] event = skipping ? null : event(bytes, start, at);
                    skipping = false;
                    start = at + 1;
                    if (!visitor.line(event, read - held + start)) {
                        return;
                    }
                }
            }
            if (start < held || skipping) {
                visitor.line(null, to); // a line that was being written when the end came
            }
        }
    }

    /** Have the file's bytes on the disk; the first {@code written} of them are then known to be. */
    void sync(long written) throws IOException {
        try {
            file.getFD().sync();
            synced = Math.max(synced, written);
        } catch (IOException error) {
            if (!ended) {
                throw error;
            }
        }
    }

    void close() {
        ended = true;
        try {
            file.close();
        } catch (IOException ignored) {
            // What was written is the kernel's.
        }
    }
}
