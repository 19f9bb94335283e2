package io.tallystick;

/** Another client, of this process or of another, has the spool's directory: give each its own. */
public final class SpoolInUseException extends TallystickException {
    private static final long serialVersionUID = 1L;

    SpoolInUseException(String message) {
        super(message);
    }
}
