package io.tallystick;

/**
 * How many events went which way since the client was made.
 *
 * @param tracked     taken by {@code track}
 * @param accepted    with the server
 * @param rejected    never to be taken by the server
 * @param dropped     lost to a full spool ({@link Options.OnFull#DROP})
 * @param waiting     in the spool, those of an earlier process included
 * @param damaged     lines of an earlier process that a machine's end had cut off
 * @param failures    attempts without an answer that settles anything
 * @param lastFailure the last of them, in words; empty: none
 */
public record Stats(long tracked, long accepted, long rejected, long dropped, long waiting, long damaged, long failures,
                    String lastFailure) {
}
