package io.tallystick;

/** Events wait for the server, and there is no room for another; or the client is closed. */
public final class SpoolFullException extends TallystickException {
    private static final long serialVersionUID = 1L;

    SpoolFullException(String message) {
        super(message);
    }

    SpoolFullException(String message, Throwable cause) {
        super(message, cause);
    }
}
