// What the app uses of AVFoundation.

@_exported import CoreGraphics

public struct AVMediaType: Sendable { public static let video = AVMediaType() }

public final class AVCaptureDevice {
    public enum DeviceType { case builtInWideAngleCamera }
    public enum Position { case back, front, unspecified }
    public static func requestAccess(for type: AVMediaType) async -> Bool { false }
    public static func `default`(_ type: DeviceType, for media: AVMediaType?, position: Position) -> AVCaptureDevice? { nil }
    public static func `default`(for media: AVMediaType) -> AVCaptureDevice? { nil }
}

public class AVCaptureInput {}
public class AVCaptureOutput: NSObject {
    public func connection(with type: AVMediaType) -> AVCaptureConnection? { nil }
}
public final class AVCaptureDeviceInput: AVCaptureInput { public init(device: AVCaptureDevice) throws {} }

public final class AVCaptureConnection {
    public func isVideoRotationAngleSupported(_ angle: CGFloat) -> Bool { false }
    public var videoRotationAngle: CGFloat = 0
}

public final class CMSampleBuffer {}
public func CMSampleBufferGetImageBuffer(_ buffer: CMSampleBuffer) -> CVImageBuffer? { nil }

public protocol AVCaptureVideoDataOutputSampleBufferDelegate: NSObjectProtocol {
    func captureOutput(_ output: AVCaptureOutput, didOutput buffer: CMSampleBuffer, from connection: AVCaptureConnection)
}

public final class AVCaptureVideoDataOutput: AVCaptureOutput {
    public var videoSettings: [String: Any]! = [:]
    public var alwaysDiscardsLateVideoFrames = true
    public func setSampleBufferDelegate(_ delegate: (any AVCaptureVideoDataOutputSampleBufferDelegate)?, queue: DispatchQueue?) {}
}

public final class AVCaptureSession {
    public struct Preset: Sendable { public static let vga640x480 = Preset() }
    public init() {}
    public var isRunning: Bool { false }
    public var sessionPreset = Preset.vga640x480
    public func canSetSessionPreset(_ preset: Preset) -> Bool { true }
    public func canAddInput(_ input: AVCaptureInput) -> Bool { true }
    public func canAddOutput(_ output: AVCaptureOutput) -> Bool { true }
    public func addInput(_ input: AVCaptureInput) {}
    public func addOutput(_ output: AVCaptureOutput) {}
    public func beginConfiguration() {}
    public func commitConfiguration() {}
    public func startRunning() {}
    public func stopRunning() {}
}
