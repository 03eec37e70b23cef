// CameraScreen: live predictions from the camera, each frame cut and scaled as in the verification.

import AVFoundation
import Observation
import SwiftUI
import UIKit

struct CameraScreen: View {
    let plan: Plan
    @State private var camera = Camera()
    @Environment(\.scenePhase) private var phase

    var body: some View {
        ScrollView {
            VStack(spacing: 16) {
                switch camera.state {
                case .running(let shot):
                    if let shot {
                        ShotView(plan: plan, shot: shot)
                    } else {
                        RasterView(raster: nil, label: "Waiting for the camera")
                    }
                case .denied:
                    Message(title: "No permission", text: "Allow the camera for this app in Settings to see live predictions.")
                    if let settings = URL(string: UIApplication.openSettingsURLString) {
                        Link("Open Settings", destination: settings).buttonStyle(.borderedProminent)
                    }
                case .failed(let reason):
                    Message(title: "No camera", text: reason)
                }
            }
            .padding()
            .frame(maxWidth: .infinity)
        }
        .task(id: phase) {
            if phase == .active { await camera.start(plan) } else { camera.stop() }
        }
        .onDisappear { camera.stop() }
        .onReceive(NotificationCenter.default.publisher(for: UIDevice.orientationDidChangeNotification)) { _ in camera.turn() }
    }
}

@MainActor @Observable
final class Camera {
    enum State {
        case running(Shot?), denied, failed(String)
    }

    private(set) var state = State.running(nil)
    @ObservationIgnored private var lens: Lens?
    @ObservationIgnored private var wanted = false

    func start(_ plan: Plan) async {
        wanted = true
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            state = .denied
            return
        }
        do {
            if lens == nil {
                let predictor = try await Predictor(plan)
                lens = try Lens(predictor) { [weak self] shot in self?.show(shot) }
            }
        } catch {
            state = .failed(error.localizedDescription)
        }
        guard wanted, let lens else { return }
        UIDevice.current.beginGeneratingDeviceOrientationNotifications()
        turn()
        if case .running = state {} else { state = .running(nil) }
        lens.start()
    }

    func stop() {
        guard wanted else { return }
        wanted = false
        UIDevice.current.endGeneratingDeviceOrientationNotifications()
        lens?.stop()
    }

    /// Frames come upright, however the device is held.
    func turn() {
        switch UIDevice.current.orientation {
        case .portrait: lens?.turn(90)
        case .landscapeLeft: lens?.turn(0)
        case .landscapeRight: lens?.turn(180)
        case .portraitUpsideDown: lens?.turn(270)
        default: break
        }
    }

    private func show(_ shot: Shot) {
        if wanted { state = .running(shot) }
    }
}

/// The capture session on its own queue. One frame is predicted at a time; what comes in the meantime is dropped.
private final class Lens: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    private let predictor: Predictor
    private let report: @MainActor @Sendable (Shot) -> Void
    private let session = AVCaptureSession()
    private let output = AVCaptureVideoDataOutput()
    private let queue = DispatchQueue(label: "camera")
    /// Touched on the queue alone.
    private var busy = false

    init(_ predictor: Predictor, report: @escaping @MainActor @Sendable (Shot) -> Void) throws {
        self.predictor = predictor
        self.report = report
        super.init()
        let found = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back)
            ?? AVCaptureDevice.default(for: .video)
        guard let device = found, let input = try? AVCaptureDeviceInput(device: device),
              session.canAddInput(input), session.canAddOutput(output)
        else { throw Failure("This device has no camera that the app can use.") }
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.beginConfiguration()
        if session.canSetSessionPreset(.vga640x480) { session.sessionPreset = .vga640x480 }
        session.addInput(input)
        session.addOutput(output)
        session.commitConfiguration()
        turn(90)
    }

    func start() {
        queue.async { if !self.session.isRunning { self.session.startRunning() } }
    }

    func stop() {
        queue.async { if self.session.isRunning { self.session.stopRunning() } }
    }

    func turn(_ degrees: Int) {
        queue.async {
            guard let connection = self.output.connection(with: .video) else { return }
            let angle = CGFloat(degrees)
            if connection.isVideoRotationAngleSupported(angle) { connection.videoRotationAngle = angle }
        }
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput buffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        guard !busy, let pixels = CMSampleBufferGetImageBuffer(buffer), let frame = Picture.raster(pixels) else { return }
        busy = true
        Task {
            if let shot = try? await predictor.look(frame) { await report(shot) }
            queue.async { self.busy = false }
        }
    }
}
