package io.tallystick;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/** Events in memory: for clients without a directory. */
final class MemorySpool implements Spool {
    private final long bytesMax;
    private final ArrayDeque<byte[]> lines = new ArrayDeque<>();
    private long bytes;
    private long appended;
    private long acknowledged;
    private boolean closed;

    MemorySpool(long bytesMax) {
        this.bytesMax = bytesMax;
    }

    @Override
    public synchronized long append(byte[] line) {
        if (closed) {
            throw new SpoolFullException("The client is closed.");
        }
        if (bytes + line.length > bytesMax && !lines.isEmpty()) {
            return 0;
        }
        lines.addLast(line);
        bytes += line.length;
        return ++appended;
    }

    @Override
    public synchronized Batch batch(int eventsMax, long batchBytesMax) {
        List<byte[]> taken = new ArrayList<>();
        long size = 0;
        for (byte[] line : lines) {
            size += line.length + 1;
            if (taken.size() == eventsMax || size > batchBytesMax && !taken.isEmpty()) {
                break;
            }
            taken.add(line);
        }
        return new Batch(taken, null);
    }

    @Override
    public synchronized void acknowledge(Batch batch, int count) {
        for (int index = 0; index < count; index++) {
            bytes -= lines.removeFirst().length;
        }
        acknowledged += count;
    }

    @Override
    public synchronized long waiting() {
        return appended - acknowledged;
    }

    @Override
    public synchronized long waitingBytes() {
        return bytes;
    }

    @Override
    public synchronized long newest() {
        return appended;
    }

    @Override
    public synchronized long answered() {
        return acknowledged;
    }

    @Override
    public long damaged() {
        return 0;
    }

    @Override
    public void sync() {
        // There is no disk.
    }

    @Override
    public synchronized void close() {
        closed = true;
    }
}
