package io.tallystick;

/** An event that cannot be sent: a required part is missing, it is too large, or its data is no JSON. */
public final class InvalidEventException extends TallystickException {
    private static final long serialVersionUID = 1L;

    InvalidEventException(String message) {
        super(message);
    }
}
