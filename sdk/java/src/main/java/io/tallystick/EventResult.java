package io.tallystick;

/**
 * What became of an event.
 *
 * @param id       the event's id
 * @param source   the event's source
 * @param accepted whether the server has it, durably; otherwise it will never take it
 * @param code     why not: one of the contract's ({@code invalid_time}, …); null when accepted
 * @param detail   the server's words; null when accepted
 * @param event    the event as it was sent, in JSON
 */
public record EventResult(String id, String source, boolean accepted, String code, String detail, String event) {
}
