package io.tallystick;

/** No answer came. Whether the request was carried out is not known; repeating it is safe. */
public final class UnreachableException extends TallystickException {
    private static final long serialVersionUID = 1L;

    UnreachableException(String message) {
        super(message);
    }

    UnreachableException(String message, Throwable cause) {
        super(message, cause);
    }
}
