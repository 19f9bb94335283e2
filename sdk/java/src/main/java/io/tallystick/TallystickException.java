package io.tallystick;

/**
 * Anything this package throws.
 *
 * <pre>
 * TallystickException
 * ├── InvalidEventException   an event that no server would take; told at the caller
 * ├── SpoolFullException      there is no room for another event, and waiting did not help
 * ├── SpoolInUseException     another client has the spool's directory
 * ├── UnreachableException    no answer came: no connection, cut off, or too late
 * └── ProblemException        the server refused
 * </pre>
 */
public class TallystickException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** @param message what happened, and what helps */
    public TallystickException(String message) {
        super(message);
    }

    /**
     * @param message what happened, and what helps
     * @param cause   what was thrown below
     */
    public TallystickException(String message, Throwable cause) {
        super(message, cause);
    }
}
