// What the app uses of UIKit.

@_exported import CoreGraphics

public final class UIImage: @unchecked Sendable {
    public enum Orientation: Int, Sendable { case up, down, left, right, upMirrored, downMirrored, leftMirrored, rightMirrored }
    public var cgImage: CGImage? { nil }
    public var imageOrientation: Orientation { .up }
}
public enum UIDeviceOrientation: Sendable {
    case unknown, portrait, portraitUpsideDown, landscapeLeft, landscapeRight, faceUp, faceDown
}

@MainActor
public final class UIDevice {
    public static var current: UIDevice { UIDevice() }
    public nonisolated static var orientationDidChangeNotification: Notification.Name { .init("orientation") }
    public var model: String { "" }
    public var systemName: String { "" }
    public var systemVersion: String { "" }
    public var orientation: UIDeviceOrientation { .unknown }
    public func beginGeneratingDeviceOrientationNotifications() {}
    public func endGeneratingDeviceOrientationNotifications() {}
}

@MainActor
public final class UIApplication {
    public static var shared: UIApplication { UIApplication() }
    public nonisolated static var openSettingsURLString: String { "" }
    public var isIdleTimerDisabled = false
}
