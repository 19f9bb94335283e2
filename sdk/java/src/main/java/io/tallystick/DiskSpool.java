package io.tallystick;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.CRC32C;

/**
 * Events in a directory: segments in order, a mark of what is answered for, and a lock. What was written is the kernel's,
 * so that the death of the process cannot take it; {@link #sync} secures it from the death of the machine.
 *
 * <p>The mark may be older than the truth, never newer: what is sent twice because of it counts once.
 */
final class DiskSpool implements Spool {
    private static final System.Logger LOG = System.getLogger("io.tallystick");
    private static final int MARK_BYTES = 20;
    private static final int MARK_SLOT_BYTES = 64;

    /** Directories of this process. A second lock of the same file in one process would end the first. */
    private static final Set<Path> TAKEN = new HashSet<>();

    private record Place(Segment segment, long[] ends) {
    }

    private final Path directory;
    private final long bytesMax;
    private final int segmentBytes;
    private final RandomAccessFile lockFile;
    private final RandomAccessFile markFile;
    private final Object syncing = new Object();
    private final ArrayDeque<Segment> segments = new ArrayDeque<>();
    private final Map<Segment, Long> events = new HashMap<>();
    private Segment open;
    private long headAnsweredTo;
    private long nextNumber;
    private long marks;
    private long bytes;
    private long appended;
    private long acknowledged;
    private long damaged;
    private boolean directoryChanged;
    private boolean closed;

    /** Takes the directory, and finds what an earlier process left in it. */
    DiskSpool(Path wanted, long bytesMax, int segmentBytes) {
        this.bytesMax = bytesMax;
        this.segmentBytes = segmentBytes;
        try {
            if (!Files.isDirectory(wanted)) {
                if (FileSystems.getDefault().supportedFileAttributeViews().contains("posix")) {
                    Files.createDirectories(wanted,
                        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
                } else {
                    Files.createDirectories(wanted);
                }
            }
            directory = wanted.toRealPath();
        } catch (IOException error) {
            throw new TallystickException("The spool's directory " + wanted + " cannot be made: " + error, error);
        }
        synchronized (TAKEN) {
            if (!TAKEN.add(directory)) {
                throw new SpoolInUseException("A client of this process has the spool " + directory + ".");
            }
        }
        RandomAccessFile lock = null;
        RandomAccessFile mark = null;
        try {
            lock = new RandomAccessFile(directory.resolve("lock").toFile(), "rw");
            if (!locked(lock)) {
                throw new SpoolInUseException("Another process has the spool " + directory + ".");
            }
            mark = new RandomAccessFile(directory.resolve("mark").toFile(), "rw");
            lockFile = lock;
            markFile = mark;
            replay();
        } catch (IOException | RuntimeException error) {
            quietly(mark);
            quietly(lock);
            synchronized (TAKEN) {
                TAKEN.remove(directory);
            }
            if (error instanceof RuntimeException thrown) {
                throw thrown;
            }
            throw new TallystickException("The spool " + directory + " cannot be read: " + error, error);
        }
    }

    private static boolean locked(RandomAccessFile file) throws IOException {
        try {
            FileLock lock = file.getChannel().tryLock();
            return lock != null;
        } catch (OverlappingFileLockException error) {
            return false; // another class loader of this process
        }
    }

    private static void quietly(RandomAccessFile file) {
        try {
            if (file != null) {
                file.close();
            }
        } catch (IOException ignored) {
            // There is nothing more to do with it.
        }
    }

    private void replay() throws IOException {
        long[] mark = readMark();
        File[] found = directory.toFile().listFiles((parent, name) -> Segment.isSegment(name));
        if (found == null) {
            throw new IOException("it cannot be listed");
        }
        Arrays.sort(found);
        nextNumber = mark[0] + 1;
        for (File path : found) {
            Segment segment = Segment.open(path);
            nextNumber = Math.max(nextNumber, segment.number + 1);
            long from = segment.number == mark[0] ? Math.min(mark[1], segment.size) : 0;
            long[] counts = new long[2];
            if (segment.number >= mark[0]) {
                segment.scan(from, segment.size, (event, end) -> {
                    counts[event == null ? 1 : 0]++;
                    return true;
                });
            }
            damaged += counts[1];
            if (counts[0] == 0) {
                remove(segment);
                continue;
            }
            if (segments.isEmpty()) {
                headAnsweredTo = from;
            }
            segments.addLast(segment);
            events.put(segment, counts[0]);
            bytes += segment.size - from;
            appended += counts[0];
        }
    }

    @Override
    public long append(byte[] event) {
        byte[] line = Segment.frame(event);
        synchronized (this) {
            if (closed) {
                throw new SpoolFullException("The client is closed.");
            }
            if (bytes + line.length > bytesMax && appended > acknowledged) {
                return 0;
            }
            try {
                if (open == null || open.size > 0 && open.size + line.length > segmentBytes) {
                    roll();
                }
                open.append(line);
            } catch (IOException error) {
                discardEmpty();
                throw new SpoolFullException("The spool " + directory + " takes no more: " + error.getMessage(), error);
            }
            bytes += line.length;
            events.merge(open, 1L, Long::sum);
            return ++appended;
        }
    }

    /** A full disk has room for names of files: each event that is refused would leave one, and a descriptor. */
    private void discardEmpty() {
        if (open != null && open.size == 0) {
            segments.removeLast();
            events.remove(open);
            remove(open);
            open = null;
        }
    }

    private void roll() throws IOException {
        open = null;
        Segment made = Segment.create(directory.toFile(), nextNumber++);
        if (segments.isEmpty()) {
            headAnsweredTo = 0;
        }
        segments.addLast(made);
        events.put(made, 0L);
        open = made;
        directoryChanged = true;
    }

    @Override
    public Batch batch(int eventsMax, long batchBytesMax) throws IOException {
        while (true) {
            Segment segment;
            long from;
            long to;
            synchronized (this) {
                dropAnswered();
                segment = segments.peekFirst();
                if (closed || segment == null || events.get(segment) == 0) {
                    return new Batch(List.of(), null);
                }
                from = headAnsweredTo;
                to = segment.size;
            }
            List<byte[]> lines = new ArrayList<>();
            long[] ends = new long[eventsMax];
            long[] size = new long[1];
            segment.scan(from, to, (event, end) -> {
                if (event == null) {
                    return true;
                }
                size[0] += event.length + 1;
                if (size[0] > batchBytesMax && !lines.isEmpty()) {
                    return false;
                }
                ends[lines.size()] = end;
                lines.add(event);
                return lines.size() < eventsMax;
            });
            if (!lines.isEmpty()) {
                return new Batch(lines, new Place(segment, ends));
            }
            lost(segment);
        }
    }

    /** Lines that were there are no more: somebody changed the file, or the disk did. */
    private synchronized void lost(Segment segment) {
        long count = events.getOrDefault(segment, 0L);
        LOG.log(System.Logger.Level.ERROR, "{0} events in {1} cannot be read any more.", count, segment.path);
        damaged += count;
        acknowledged += count;
        events.put(segment, 0L);
        if (segment == open) {
            open = null;
        }
    }

    @Override
    public synchronized void acknowledge(Batch batch, int count) throws IOException {
        if (closed || count == 0) {
            return; // an answer that came after the end: the next process sends these again
        }
        Place place = (Place) batch.place();
        long end = place.ends[count - 1];
        bytes -= end - headAnsweredTo;
        headAnsweredTo = end;
        acknowledged += count;
        events.merge(place.segment, (long) -count, Long::sum);
        dropAnswered();
        writeMark(place.segment.number, end);
    }

    private void dropAnswered() {
        while (!segments.isEmpty() && events.get(segments.peekFirst()) == 0) {
            Segment segment = segments.peekFirst();
            if (segment == open) {
                if (segment.size < segmentBytes / 2) {
                    return; // there is room in it yet
                }
                open = null;
            }
            segments.removeFirst();
            events.remove(segment);
            bytes -= segment.size - headAnsweredTo;
            headAnsweredTo = 0;
            remove(segment);
        }
    }

    private static void remove(Segment segment) {
        segment.close();
        if (!segment.path.delete()) {
            LOG.log(System.Logger.Level.WARNING, "{0} cannot be deleted.", segment.path);
        }
    }

    /** The number of a segment and how far it is answered for: the newer of two slots, of which one may be torn. */
    private long[] readMark() throws IOException {
        long[] newest = {0, 0};
        for (int slot = 0; slot < 2; slot++) {
            byte[] found = new byte[MARK_BYTES];
            if (markFile.length() >= (long) slot * MARK_SLOT_BYTES + MARK_BYTES) {
                markFile.seek((long) slot * MARK_SLOT_BYTES);
                markFile.readFully(found);
                ByteBuffer fields = ByteBuffer.wrap(found);
                long number = fields.getLong();
                long to = fields.getLong();
                if (fields.getInt() == sum(found) && (number > newest[0] || number == newest[0] && to > newest[1])) {
                    newest = new long[] {number, to};
                }
            }
        }
        return newest;
    }

    private void writeMark(long number, long to) throws IOException {
        ByteBuffer fields = ByteBuffer.allocate(MARK_BYTES).putLong(number).putLong(to);
        fields.putInt(sum(fields.array()));
        markFile.seek((marks++ & 1) * MARK_SLOT_BYTES);
        markFile.write(fields.array());
    }

    private static int sum(byte[] fields) {
        CRC32C sum = new CRC32C();
        sum.update(fields, 0, MARK_BYTES - 4);
        return (int) sum.getValue();
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
    public synchronized long damaged() {
        return damaged;
    }

    @Override
    public void sync() throws IOException {
        synchronized (syncing) { // who waited for another's sync finds its own events synced, and goes on
            List<Segment> found = new ArrayList<>();
            List<Long> written = new ArrayList<>();
            boolean changed;
            synchronized (this) {
                if (closed) {
                    return;
                }
                for (Segment segment : segments) {
                    if (segment.synced < segment.size && events.get(segment) > 0) {
                        found.add(segment);
                        written.add(segment.size);
                    }
                }
                changed = directoryChanged && !found.isEmpty();
                directoryChanged &= !changed;
            }
            for (int index = 0; index < found.size(); index++) {
                found.get(index).sync(written.get(index));
            }
            if (changed && File.separatorChar == '/') { // the new file's name is in the directory
                try (FileChannel names = FileChannel.open(directory, StandardOpenOption.READ)) {
                    names.force(true);
                }
            }
        }
    }

    @Override
    public void close() {
        try {
            sync();
        } catch (IOException error) {
            LOG.log(System.Logger.Level.ERROR, "The spool cannot be synced.", error);
        }
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            for (Segment segment : segments) {
                if (events.get(segment) == 0) {
                    remove(segment);
                } else {
                    segment.close();
                }
            }
            quietly(markFile);
            quietly(lockFile);
        }
        synchronized (TAKEN) {
            TAKEN.remove(directory);
        }
    }
}
