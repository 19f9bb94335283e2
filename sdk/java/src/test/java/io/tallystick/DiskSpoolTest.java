package io.tallystick;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DiskSpoolTest {
    @TempDir
    Path directory;

    private DiskSpool spool(Path at) {
        return new DiskSpool(at, 1 << 20, 2_000);
    }

    private static byte[] event(int number, int filler) {
        return ("{\"n\":" + number + ",\"x\":\"" + "x".repeat(filler) + "\"}").getBytes(StandardCharsets.UTF_8);
    }

    private static List<String> all(DiskSpool spool) throws IOException {
        List<String> found = new ArrayList<>();
        while (true) {
            Spool.Batch batch = spool.batch(7, 1_000);
            if (batch.lines().isEmpty()) {
                return found;
            }
            batch.lines().forEach(line -> found.add(new String(line, StandardCharsets.UTF_8)));
            spool.acknowledge(batch, batch.lines().size());
        }
    }

    private static void copy(Path from, Path to) throws IOException {
        Files.createDirectories(to);
        try (Stream<Path> files = Files.list(from)) {
            for (Path file : files.toList()) {
                Files.copy(file, to.resolve(file.getFileName()));
            }
        }
    }

    /** The spool against a queue: whatever is done in whatever order, and after each death, what waits is what should. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4})
    void anyOrderOfThings(long seed) throws IOException {
        Random random = new Random(seed);
        ArrayDeque<String> model = new ArrayDeque<>();
        Path at = directory.resolve("0");
        DiskSpool spool = spool(at);
        int made = 0;
        for (int step = 0; step < 600; step++) {
            int choice = random.nextInt(100);
            if (choice < 60) {
                byte[] event = event(made++, random.nextInt(10) == 0 ? 3_000 : random.nextInt(200));
                assertTrue(spool.append(event) > 0);
                model.addLast(new String(event, StandardCharsets.UTF_8));
            } else if (choice < 90) {
                Spool.Batch batch = spool.batch(1 + random.nextInt(20), 1 + random.nextInt(4_000));
                assertEquals(model.isEmpty(), batch.lines().isEmpty());
                int count = random.nextInt(batch.lines().size() + 1);
                for (int index = 0; index < batch.lines().size(); index++) {
                    String found = new String(batch.lines().get(index), StandardCharsets.UTF_8);
                    assertEquals(index < count ? model.removeFirst() : found, found);
                }
                spool.acknowledge(batch, count);
            } else if (choice < 93) {
                spool.sync();
            } else if (choice < 97) {
                spool.close();
                spool = spool(at);
            } else { // the process dies: nothing is closed, the files stay as they are
                Path next = directory.resolve(String.valueOf(step + 1));
                copy(at, next);
                spool.close();
                at = next;
                spool = spool(at);
            }
            assertEquals(model.size(), spool.waiting());
        }
        assertEquals(new ArrayList<>(model), all(spool));
        assertEquals(0, spool.damaged());
        assertEquals(0, spool.waiting());
        spool.close();
        assertEquals(List.of("lock", "mark"), Stream.of(at.toFile().list()).sorted().toList());
    }

    @ParameterizedTest
    @ValueSource(strings = {"cut", "bit", "hole", "line", "mark", "strange"})
    void damageTakesNoMoreThanItTouches(String damage) throws IOException {
        DiskSpool spool = new DiskSpool(directory, 1 << 20, 1 << 20);
        List<String> wanted = new ArrayList<>();
        for (int n = 0; n < 100; n++) {
            byte[] event = event(n, 50);
            spool.append(event);
            wanted.add(new String(event, StandardCharsets.UTF_8));
        }
        int line = event(50, 50).length + Segment.FRAME_BYTES;
        spool.close();
        File segment = directory.toFile().listFiles((parent, name) -> Segment.isSegment(name))[0];
        try (RandomAccessFile file = new RandomAccessFile(segment, "rw")) {
            long end = file.length();
            switch (damage) {
                case "cut" -> { // a line was being written
                    file.setLength(end - 20);
                    wanted.remove(99);
                }
                case "bit" -> {
                    file.seek(end - 10L * line + 30);
                    int value = file.read();
                    file.seek(end - 10L * line + 30);
                    file.write(value ^ 1);
                    wanted.remove(90);
                }
                case "hole" -> { // a page that never reached the disk
                    file.seek(end - 10L * line);
                    file.write(new byte[3 * line]);
                    wanted.subList(90, 93).clear();
                }
                case "line" -> { // longer than any event
                    file.setLength(end - line);
                    file.seek(end - line);
                    file.write(new byte[3 << 20]);
                    file.write('\n');
                    file.write(Segment.frame(wanted.remove(99).getBytes(StandardCharsets.UTF_8)));
                    wanted.add(new String(event(99, 50), StandardCharsets.UTF_8));
                }
                case "mark" -> Files.write(directory.resolve("mark"), new byte[] {1, 2, 3});
                default -> Files.writeString(directory.resolve("README"), "whatever");
            }
        }
        spool = new DiskSpool(directory, 8 << 20, 1 << 20);
        assertEquals(wanted.size(), spool.waiting());
        assertEquals(damage.equals("mark") || damage.equals("strange") ? 0 : 1, Math.min(1, spool.damaged()));
        spool.append(event(1000, 1));
        wanted.add(new String(event(1000, 1), StandardCharsets.UTF_8));
        assertEquals(numbers(wanted), numbers(all(spool)));
        spool.close();
    }

    private static List<Object> numbers(List<String> events) {
        return events.stream().map(event -> Json.object(Json.read(event)).get("n")).toList();
    }

    @Test
    void aSpoolThatIsDamagedWhileItIsReadDoesNotStop() throws IOException {
        DiskSpool spool = spool(directory);
        spool.append(event(1, 10));
        File segment = directory.toFile().listFiles((parent, name) -> Segment.isSegment(name))[0];
        Files.write(segment.toPath(), new byte[(int) segment.length()]);
        assertEquals(List.of(), all(spool));
        assertEquals(1, spool.damaged());
        spool.append(event(2, 10));
        assertEquals(1, all(spool).size());
        spool.close();
    }

    @Test
    void bounded() throws IOException {
        DiskSpool spool = new DiskSpool(directory, 10_000, 1_000);
        int taken = 0;
        while (spool.append(event(taken, 100)) > 0) {
            taken++;
        }
        assertTrue(taken > 60 && taken < 100, "" + taken);
        long held = Arrays.stream(directory.toFile().listFiles()).mapToLong(File::length).sum();
        assertTrue(held < 11_200, "" + held);
        Spool.Batch batch = spool.batch(1, 1);
        spool.acknowledge(batch, 1);
        assertTrue(spool.append(event(0, 100)) > 0);
        assertEquals(0, spool.append(event(0, 100)));
        assertEquals(taken, all(spool).size());
        assertTrue(spool.append(event(0, 20_000)) > 0, "An empty spool takes any event.");
        spool.close();
        assertThrows(SpoolFullException.class, () -> spool.append(event(0, 1)));
    }

    @Test
    void oneClientADirectory() throws IOException, InterruptedException {
        DiskSpool spool = spool(directory);
        assertThrows(SpoolInUseException.class, () -> spool(directory));
        assertThrows(SpoolInUseException.class, () -> spool(directory.resolve("../" + directory.getFileName())));
        assertEquals(3, Other.open(directory), "Another process got in, though this one lives.");
        spool.close();
        assertEquals(0, Other.open(directory));
        assertFalse(Files.exists(directory.resolve("nothing")));
    }

    /** Another process. */
    static final class Other {
        static int open(Path directory) throws IOException, InterruptedException {
            return new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xshare:auto",
                "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), Other.class.getName(),
                directory.toString()).inheritIO().start().waitFor();
        }

        public static void main(String[] arguments) {
            try {
                new DiskSpool(Path.of(arguments[0]), 1_000, 1_000).close();
            } catch (SpoolInUseException error) {
                System.exit(3);
            }
        }
    }
}
