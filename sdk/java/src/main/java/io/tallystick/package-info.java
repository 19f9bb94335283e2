/**
 * Usage events to Tallystick, each counted once, and what they add up to. {@link io.tallystick.Client} is the way in. Nothing
 * beside the Java library is needed; {@code io.tallystick.servlet} is for those who have a servlet container.
 */
package io.tallystick;
